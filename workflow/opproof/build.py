"""The build stage: compiles a library once, ahead of time, for every job to load.

A source that does not compile is a finding about its backend, recorded in build.json; a machine
without a compiler or ninja is the user's to mend.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from opproof import arguments, artifact, library, planned, sources, toolchain, users_header
from opproof.errors import UserError
from opproof.paths import CSRC
from opproof.settings import Build, Library

# The same results whatever the compiler would fuse or assume; no flag that ties to one processor.
_FLAGS = ["-O3", "-ffp-contract=off"]
# Intermediate files beside the object, not under a name with the process's number, which would end
# up in the library: the same sources make the same bytes.
_CUDA_FLAGS = ["-O3", "-fmad=false", "-Xptxas=-v", "-objtemp"]

# The oldest torch whose stable ABI is used, so that one library serves all from there on.
_STABLE_ABI = "-DTORCH_TARGET_VERSION=0x020b000000000000"

# What the sources that are compiled for a header need besides: the loops' `omp simd`; errno and
# traps, which keep loops from being vectorised, are nobody's to ask for.
_HEADER_FLAGS = ["-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", _STABLE_ABI]
_HEADER_CUDA_FLAGS = [_STABLE_ABI, "-DUSE_CUDA"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `opproof build`."""
    arguments.add_config(parser)
    parser.add_argument(
        "--library", metavar="NAME", help="compile this one (all that the backends need)"
    )


def main(args: argparse.Namespace) -> int:
    """Build what is asked for; return 0, also when sources do not compile."""
    settings = arguments.read_settings(args)
    wanted = [settings.library(args.library)] if args.library else settings.libraries
    for entry in wanted:
        build(entry, settings.build, Path(settings.output))
    return 0


def build(entry: Library, choice: Build, output: Path) -> None:
    """Compile a library into output/build/NAME/ and record it in build.json beside it.

    Raises UserError where compiler or ninja are missing, CUDA's compiler is and must not be, a
    source is missing or edited meanwhile, or the folder can't be written, or can be by everybody.
    """
    library.require_closed(output, entry.name)
    _require_tools()
    header = sources.header(entry)
    for source in (*sources.compiled(entry), *([header] if header else [])):
        if not source.is_file():
            raise UserError(f"{source}: missing; it is a source of the library {entry.name}")
    without_cuda = _why_without_cuda(entry, choice)
    record_path = library.record_path(output, entry.name)
    before = planned.library_digest(entry)
    # Compiled in a folder of this process's own: a killed build leaves nothing that the next one
    # could trip over, and two at once do not meet.
    with tempfile.TemporaryDirectory(prefix=f"opproof-{entry.name}-") as name:
        folder = Path(name)
        users_header.write(entry, folder)
        compiled, error = _compile(entry, choice, without_cuda, folder)
        if sources.digest(entry) != before:
            raise UserError(f"{entry.name}: its sources were edited meanwhile; run it again")
        record = _describe(entry, folder, error)
        record["cuda"] = _describe_cuda(choice, without_cuda, folder, error)
        if compiled:
            content = compiled.read_bytes()
            record["sha256"] = artifact.write_bytes(record_path.parent / compiled.name, content)
    artifact.write_json(record_path, record)
    print(f"{entry.name}: {error or _built(record['cuda'])}")


def _built(cuda: dict[str, Any]) -> str:
    if cuda["built"]:
        return f"built with CUDA ({cuda['arch_list']})"
    return f"built without CUDA: {cuda['reason']}"


def _require_tools() -> None:
    # ninja installed by pip lies beside python, which need not be on the PATH.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    if toolchain.compiler() is None:
        wanted = os.environ.get("CXX", "c++")
        raise UserError(f"no C++ compiler: {wanted!r} is not on the PATH; install g++ or set CXX")
    if shutil.which("ninja") is None:
        raise UserError("ninja is not on the PATH; install it with: pip install ninja")


def _why_without_cuda(entry: Library, choice: Build) -> str | None:
    """Say why CUDA sources are left out, None if they are compiled.

    Raises UserError where the settings want CUDA and it can't be compiled.
    """
    import torch

    if not any(source.endswith(".cu") for source in entry.sources):
        return "it has no CUDA source"
    if choice.cuda == "off":
        return "cuda is off in the settings"
    version, torchs = toolchain.nvcc_version(), torch.version.cuda
    if torchs is None:
        reason = f"torch {torch.__version__} is one without CUDA"
    elif version is None:
        reason = "there is no nvcc that works, in CUDA_HOME or on the PATH"
    elif version.partition(".")[0] != torchs.partition(".")[0]:
        reason = f"nvcc is of CUDA {version}, torch {torch.__version__} of CUDA {torchs}"
    else:
        return None
    if choice.cuda == "on":
        raise UserError(f"build.cuda is on, but {reason}; allowed: auto, off")
    return reason


def _compile(
    entry: Library, choice: Build, without_cuda: str | None, folder: Path
) -> tuple[Path | None, str | None]:
    """Return the library that was compiled and no error, or none and the compiler's first error.

    `without_cuda` says why CUDA sources are left out, None if they are not. Leaves what the
    compilers said in folder/output.
    """
    import torch
    from torch.utils import cpp_extension  # takes seconds to import

    wanted = [
        path for path in sources.compiled(entry) if without_cuda is None or path.suffix != ".cu"
    ]
    if not wanted:
        return None, f"all its sources are CUDA's, which is left out: {without_cuda}"
    flags, cuda_flags = _flags_for(entry)
    # torch (2.11 to 2.14, at least) hands this path to the linker unquoted, and fails where it
    # holds a space. May go once torch quotes it, as it does those to the compiler.
    quoted = shlex.quote(cpp_extension.TORCH_LIB_PATH)
    try:
        with (
            mock.patch.object(cpp_extension, "TORCH_LIB_PATH", quoted),
            mock.patch.object(cpp_extension, "CUDA_HOME", toolchain.cuda_home()),
            # Registering operators runs the library's code, which may end the process.
            mock.patch.object(torch.ops, "load_library"),
            # Without it torch asks the GPU, and fails where there is none.
            mock.patch.dict(os.environ, TORCH_CUDA_ARCH_LIST=choice.cuda_arch_list),
            _output_kept(folder / "output"),
        ):
            cpp_extension.load(
                name=entry.name,
                sources=[str(path.absolute()) for path in wanted],
                extra_cflags=flags,
                extra_cuda_cflags=cuda_flags,
                extra_include_paths=[str(CSRC), str(folder)],
                build_directory=str(folder),
                with_cuda=without_cuda is None,
                is_python_module=False,
                # What is not defined fails here, not on loading.
                extra_ldflags=["-Wl,-z,defs", "-Wl,--as-needed"],
                verbose=True,
            )
    except subprocess.CalledProcessError as error:
        raise UserError(
            f"the C++ compiler {toolchain.compiler()} does not work: {error}"
        ) from error
    except ValueError as error:  # torch's, of a GPU that it does not know
        raise UserError(f"build.cuda_arch_list: {choice.cuda_arch_list!r}: {error}") from error
    except RuntimeError as error:
        output = (folder / "output").read_text(errors="replace")
        fault = _first_error(output)
        if fault is None:
            raise UserError(
                f"{entry.name}: the compiler failed, not for a fault of the source: "
                f"{_first_fault(output) or error}"
            ) from error
        return None, _without_paths(fault)
    compiled = folder / f"{entry.name}.so"
    fault = _load_error(compiled) if entry.user else None
    return (None, _without_paths(fault)) if fault else (compiled, None)


def _load_error(compiled: Path) -> str | None:
    """Return in a line why the library can't be loaded, tried in a process of its own; or None."""
    code = "import sys, torch; torch.ops.load_library(sys.argv[1])"
    command = [sys.executable, "-c", code, str(compiled)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    if done.returncode == 0:
        return None
    print(done.stderr)
    said = re.search(r"^ *what\(\):\s*(\S.*)$|^(\w+Error: .+)$", done.stderr, re.MULTILINE)
    reason = (said[1] or said[2]) if said else f"exit status {done.returncode}"
    return f"{compiled.name}: cannot be loaded: {reason}"


@contextmanager
def _output_kept(path: Path) -> Iterator[None]:
    """Keep what this process and its children write to their output in a file, then print it."""
    sys.stdout.flush()
    saved = os.dup(1)
    try:
        with path.open("w") as file:
            os.dup2(file.fileno(), 1)
            yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)
        print(path.read_text(errors="replace"))


def _flags_for(entry: Library) -> tuple[list[str], list[str]]:
    """Return the flags for C++ and for CUDA sources."""
    # __FILE__ and the like: nothing of this machine in the library.
    names = [f"-ffile-prefix-map={Path.cwd()}=.", f"-ffile-prefix-map={CSRC}=csrc"]
    names = [shlex.quote(name) for name in (names if entry.user else names[1:])]
    flags = [*_FLAGS, *names]
    # nvcc splits at commas what it hands on, and hands it to a shell.
    handed_on = (name.replace(",", "\\,") for name in names)
    cuda_flags = [*_CUDA_FLAGS, *(shlex.quote(f"-Xcompiler={name}") for name in handed_on)]
    header = sources.header(entry)
    if header is None:
        return flags, cuda_flags
    defined = [
        f"-DOPPROOF_LIBRARY=opproof_{entry.name}",
        f"""'-DOPPROOF_ACTIVATION="{_included(entry, header)}"'""",
    ]
    return [*flags, *_HEADER_FLAGS, *defined], [*cuda_flags, *_HEADER_CUDA_FLAGS, *defined]


def _included(entry: Library, header: Path) -> str:
    return users_header.NAME if entry.user else f"activations/{header.name}"


def _first_error(output: str) -> str | None:
    """Return the line that says what is wrong with a source, and where; None if none is."""
    if re.search("No space left|Killed signal|out of memory|Cannot allocate|Memory alloc", output):
        return None
    return _line(
        r"^.*?:\d+(:\d+)?: (fatal )?error: .*$|^.*?\(\d+\): error.*$|^ptxas .*(error|fatal).*$"
        r"|^.*(undefined reference|multiple definition).*$",
        output,
    )


def _first_fault(output: str) -> str | None:
    """Return the first line that says what is wrong with anything else; None if none does."""
    return _line(r"^.*(\b(fatal|error)\b|No space left).*$", output)


def _line(pattern: str, output: str) -> str | None:
    match = re.search(pattern, output, re.MULTILINE)
    return match.group().strip() if match else None


def _without_paths(fault: str) -> str:
    """Return the fault with the paths of this machine shortened to those of the project."""
    fault = fault.replace(f"{CSRC}{os.sep}", f"{CSRC.name}{os.sep}")
    fault = fault.replace(f"{Path.cwd()}{os.sep}", "")
    return re.sub(r"(?<![\w.:/])/[^\s:'\"(),]*/", "", fault)


def _describe(entry: Library, folder: Path, error: str | None) -> dict[str, Any]:
    import torch

    return {
        "library": entry.name,
        "file": f"{entry.name}.so",
        "error": error,
        "sha256": None,
        "sources": {_name(path): artifact.file_digest(path) for path in sources.files(entry)},
        "torch": torch.__version__,
        "stable_abi": entry.header is not None,
        "user": entry.user,
        "cxx11_abi": torch.compiled_with_cxx11_abi(),
        "compiler": toolchain.compiler_version(),
        "flags": _flags(folder, cuda=False),
    }


def _name(path: Path) -> str:
    """Return the path without what is this machine's: below csrc/ or the working folder."""
    folders = [folder for folder in (CSRC, Path.cwd()) if path.absolute().is_relative_to(folder)]
    return str(path.absolute().relative_to(folders[0])) if folders else path.name


def _describe_cuda(
    choice: Build, reason: str | None, folder: Path, error: str | None
) -> dict[str, Any]:
    if reason is not None:
        return {"built": False, "reason": reason}
    return {
        "built": error is None,
        "reason": error,
        "arch_list": choice.cuda_arch_list,
        "nvcc": toolchain.nvcc_version(),
        "flags": _flags(folder, cuda=True),
        "kernels": _kernels((folder / "output").read_text(errors="replace")),
    }


def _flags(folder: Path, cuda: bool) -> list[str]:
    """Return the compiler's flags out of ninja's commands, without the paths of this machine."""
    commands = subprocess.run(
        ["ninja", "-C", folder, "-t", "commands"], capture_output=True, text=True, check=False
    ).stdout
    compiling = [line.strip() for line in commands.split("\n") if " -c " in line]
    line = next((line for line in compiling if line.endswith(".cuda.o") == cuda), "")
    flag = re.compile(r"--?(D|O|f(?!file-prefix)|m|std|W|gencode)")
    return [word for word in shlex.split(line) if flag.match(word)]


def _kernels(output: str) -> list[dict[str, Any]]:
    """Return ptxas's report: of each kernel and architecture the registers, and bytes spilled."""
    reports = re.finditer(
        r"Compiling entry function '(?P<kernel>\w+)' for '(?P<arch>\w+)'"
        r".*?(?P<stored>\d+) bytes spill stores, (?P<loaded>\d+) bytes spill loads"
        r".*?Used (?P<registers>\d+) registers",
        output,
        re.DOTALL,
    )
    return [
        {
            "kernel": report["kernel"],
            "arch": report["arch"],
            "registers": int(report["registers"]),
            "spilled": int(report["stored"]) + int(report["loaded"]),
        }
        for report in reports
    ]
