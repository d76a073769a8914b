"""Tools of this machine: Python's packages, what compiles the libraries, GPUs."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from opproof import driver, sources, toolchain
from opproof.doctor.finding import Finding, fault, ok, warning
from opproof.doctor.question import Question
from opproof.doctor.site import Site
from opproof.settings import Settings

PLUGIN = "snakemake-executor-plugin-slurm"

# The oldest version that will do, and the first that may not, as in pyproject.toml.
VERSIONS: dict[str, tuple[str, str | None]] = {
    "snakemake": ("9.27", "10"),
    "torch": ("2.11", None),
    PLUGIN: ("2.8", "3"),
}


@dataclass(frozen=True)
class Gpus:
    """The names of this machine's GPUs, and what their driver says.

    `cuda` is the newest version that it knows, as "13.0", `fault` why they do not work.
    """

    names: tuple[str, ...] = ()
    cuda: str | None = None
    fault: str | None = None


def gpus() -> Gpus:
    """Ask the driver; none where there is no driver, or this process may use none."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1", "NoDevFiles"):
        return Gpus()
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return Gpus()
    try:
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        names = tuple(pynvml.nvmlDeviceGetName(handle) for handle in handles)
        cuda = pynvml.nvmlSystemGetCudaDriverVersion()
    finally:
        pynvml.nvmlShutdown()
    return Gpus(names, f"{cuda // 1000}.{cuda % 1000 // 10}", driver.fault() if names else None)


def torch_cuda() -> str | None:
    """Return the version of CUDA that torch is of, as "13.0", None if it is without.

    torch's own file says so; importing torch takes seconds.
    """
    spec = util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    said = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    match = re.search(r"^cuda\b[^=\n]*= *'([\d.]+)'", said, re.MULTILINE)
    return match and match[1]


def check_packages(site: Question[Site | None]) -> list[Finding]:
    """Say which versions of Python's packages are installed."""
    with_slurm = site.answer() is not None
    findings = [ok(f"Python {sys.version.split()[0]} in {sys.prefix}")]
    for package, (oldest, beyond) in VERSIONS.items():
        if package == PLUGIN and not with_slurm:
            continue
        wanted = f"{package}>={oldest}" + (f",<{beyond}" if beyond else "")
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            findings.append(fault(f"{package} is not installed", f"pip install '{wanted}'"))
            continue
        if _numbers(found) < _numbers(oldest) or (beyond and _numbers(found) >= _numbers(beyond)):
            findings.append(fault(f"{package} {found} will not do", f"pip install '{wanted}'"))
        else:
            findings.append(ok(f"{package} {found}"))
    if with_slurm and shutil.which("which") is None:
        findings.append(
            fault("the executor plugin calls `which`, not on the PATH", "install which")
        )
    return findings


def check_compilers(
    settings: Settings, gpus: Question[Gpus], site: Question[Site | None]
) -> list[Finding]:
    """Say whether the build stage, which runs where Snakemake does, has what it needs."""
    if not settings.libraries:
        return [ok("no backend has a library to compile")]
    return [*_missing_sources(settings), _compiler(), _ninja(), *_nvcc(settings, gpus, site)]


def _missing_sources(settings: Settings) -> Iterator[Finding]:
    for library in settings.libraries:
        for source in sources.compiled(library):
            if not source.is_file():
                yield fault(f"{source} is missing, a source of {library.name}", "put it there")


def _compiler() -> Finding:
    if version := toolchain.compiler_version():
        return ok(version)
    wanted = os.environ.get("CXX", "c++")
    return fault(f"no C++ compiler: {wanted!r} does not work", "install or load g++, or set CXX")


def _ninja() -> Finding:
    # pip's lies beside python, which need not be on the PATH.
    folders = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    path = shutil.which("ninja", path=folders)
    return ok(f"ninja: {path}") if path else fault("ninja is missing", "pip install ninja")


def _nvcc(
    settings: Settings, gpus: Question[Gpus], site: Question[Site | None]
) -> Iterator[Finding]:
    """Say what the build stage will decide about CUDA sources, and what comes of it."""
    with_cuda = [
        library.name
        for library in settings.libraries
        if any(source.endswith(".cu") for source in library.sources)
    ]
    if not with_cuda or settings.build.cuda == "off":
        return
    nvcc, torchs = toolchain.nvcc_version(), torch_cuda()
    if torchs is None:
        reason = "torch is one without CUDA"
    elif nvcc is None:
        reason = "no nvcc that works, in CUDA_HOME or on the PATH"
    elif nvcc.partition(".")[0] != torchs.partition(".")[0]:
        reason = f"nvcc is of CUDA {nvcc}, torch of CUDA {torchs}"
    else:
        yield ok(f"nvcc of CUDA {nvcc}, which fits torch's {torchs}")
        return
    advice = f"load CUDA {torchs}, or set CUDA_HOME" if torchs else "install a torch with CUDA"
    if settings.build.cuda == "on":
        yield fault(f"build.cuda is on, but {reason}", f"{advice}; or build.cuda: auto")
    elif settings.device == "cuda" or (
        settings.device == "auto" and (_has_gpus(site) or gpus.answer().names)
    ):
        names = [backend.name for backend in settings.backends if backend.library in with_cuda]
        yield warning(f"{reason}: on a GPU {', '.join(names)} will be refused", advice)
    else:
        yield ok(f"{reason}: CUDA sources are left out")


def check_gpus(
    settings: Settings, gpus: Question[Gpus], site: Question[Site | None]
) -> list[Finding]:
    """Say what verification and training would run on here, or that SLURM has the GPUs."""
    found, cuda = gpus.answer(), torch_cuda()
    here = f"GPU: {', '.join(found.names)}, driver for CUDA {found.cuda}"
    if settings.device == "cpu":
        return [ok("device is cpu: no GPU is used")]
    if not found.names:
        if _has_gpus(site):
            return [ok("no GPU here: SLURM gives jobs theirs")]
        if settings.device == "cuda":
            return [fault("device is cuda, but no GPU is here", "set device: cpu or auto")]
        return [ok("no GPU here: verification and training run on the CPU")]
    if found.fault:
        return [fault(f"{here}; it says: {found.fault}", "device: cpu, or another machine")]
    if cuda is None:
        text, advice = f"{here}; torch is one without CUDA", "install a torch with CUDA"
        return [fault(text, advice) if settings.device == "cuda" else warning(text, advice)]
    if found.cuda and int(found.cuda.partition(".")[0]) < int(cuda.partition(".")[0]):
        return [
            fault(
                f"{here}; torch is of CUDA {cuda}, and will see no GPU",
                f"a newer driver, or a torch of CUDA {found.cuda.partition('.')[0]}",
            )
        ]
    return [ok(here)]


def _has_gpus(site: Question[Site | None]) -> bool:
    """Return whether SLURM gives jobs GPUs."""
    found = site.answer()
    return bool(found and found.gpu_partitions)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers that a version starts with: (2, 14, 1) for 2.14.1+cu130."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()
