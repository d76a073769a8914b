"""The build stage, with the machine's own compilers and ninja."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from opproof import (
    __main__,
    arguments,
    artifact,
    build,
    config,
    library,
    settings,
    sources,
    toolchain,
)
from opproof.backends import LIBRARIES
from opproof.errors import UserError
from opproof.paths import CSRC
from opproof.settings import Build, Library

Compile = Callable[[dict[str, str]], tuple[int, dict[str, Any]]]

needs_nvcc = pytest.mark.skipif(
    (toolchain.nvcc_version() or "none").partition(".")[0]
    != (torch.version.cuda or "no CUDA").partition(".")[0],
    reason="LOUD: no nvcc of torch's CUDA: the build of CUDA sources is NOT tested",
)

_NUMBERS = itertools.count()  # torch compiles a library of one name once in a process

# Builds a library that needs no torch to compile, in processes that are forked from this one.
_FORKS = """
import os
import signal
import sys
from pathlib import Path

import torch.utils.cpp_extension
from opproof import artifact, build, library, sources
from opproof.settings import Build, Library

sources.CSRC = Path.cwd()
CALLS = {"write", "fsync", "replace", "mkdir", "fork_exec"}


def start(folder, last=0):
    '''Build in a child that is killed at its `last` moment, if it has so many.'''
    if child := os.fork():
        return child
    moments = 0

    def count(frame, event, function):
        nonlocal moments
        if event == "c_return" and function.__name__ in CALLS:
            moments += 1
            if moments == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    build.build(Library("tiny", ("tiny.cpp",)), Build("auto", "9.0"), Path(folder))
    os._exit(0)


def status(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def digest(folder):
    '''Return the digest of a library that is as its record says.'''
    path = library.record_path(Path(folder), "tiny")
    digest = artifact.file_digest(path.with_name("tiny.so"))
    assert digest == artifact.read_json(path)["sha256"]
    return digest


"""


def built(factory: pytest.TempPathFactory) -> Path:
    """Return the output folder of the one build that the tests of a session share.

    Built where every path has a space, without a GPU, beside a CUDA toolkit that does not work.
    """
    folder = factory.getbasetemp() / "one build"
    output = folder / "the results"
    if not library.record_path(output, "aten_gelu").exists():
        toolkit = folder / "the toolkit"
        (toolkit / "bin").mkdir(parents=True)
        (toolkit / "bin" / "nvcc").write_text("#!/bin/sh\nexit 1\n")
        (toolkit / "bin" / "nvcc").chmod(0o755)
        backends = "[torch, python, cpp, erf, fused, pooled]"
        (folder / "config.yaml").write_text(f"output: the results\nbackends: {backends}\n")
        environment = {
            "CUDA_VISIBLE_DEVICES": "",
            "CUDA_HOME": str(toolkit),
            "TMPDIR": str(folder),
        }
        steps = "output: the results\nbackends: [erf, fused]\nengine: kernel\n"
        (folder / "kernel.yaml").write_text(steps)
        command = [sys.executable, "-m", "opproof", "build"]
        of_steps = [*command, "--config", "kernel.yaml", "--library"]
        for each in (command, [*of_steps, "gelu_step"], [*of_steps, "gelu_erf_step"]):
            subprocess.run(each, cwd=folder, env={**os.environ, **environment}, check=True)
    return output


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory)


@pytest.mark.parametrize("name", ["", "build", "build/aten_gelu"])
def test_nothing_is_built_where_everybody_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(build, "_compile", None)
    (tmp_path / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / name).chmod(0o777)
    with pytest.raises(UserError, match=f"^{tmp_path / name}: everybody can write to it"):
        build.build(LIBRARIES["aten_gelu"], Build("off", "9.0"), tmp_path)


def test_the_record_says_what_the_library_was_made_of_and_how(output: Path) -> None:
    record = artifact.read_json(library.record_path(output, "aten_gelu"))
    flags = record.pop("flags")
    assert record == {
        "library": "aten_gelu",
        "file": "aten_gelu.so",
        "error": None,
        "sha256": artifact.file_digest(output / "build" / "aten_gelu" / "aten_gelu.so"),
        "sources": {"aten_gelu.cpp": artifact.file_digest(CSRC / "aten_gelu.cpp")},
        "torch": str(torch.__version__),
        "stable_abi": False,
        "user": False,
        "cxx11_abi": torch.compiled_with_cxx11_abi(),
        "compiler": first_line(os.environ.get("CXX", "c++"), "--version"),
        "cuda": {"built": False, "reason": "it has no CUDA source"},
    }
    assert {"-O3", "-ffp-contract=off", "-fPIC", "-DTORCH_EXTENSION_NAME=aten_gelu"} <= {*flags}
    assert sum(flag.startswith("-std=c++") for flag in flags) == 1
    assert not [flag for flag in flags if re.match("-(ffast-math|Ofast|march|mtune|I|L)", flag)]


def test_the_record_has_no_path_of_the_machine(output: Path) -> None:
    has_no_path(library.record_path(output, "aten_gelu").read_text())


def test_nothing_but_the_library_and_its_record_is_left(output: Path) -> None:
    left = {str(path.relative_to(output.parent)) for path in output.parent.rglob("*")}
    expected = {"config.yaml", "kernel.yaml", "the results", "the results/build"}
    for name in LIBRARIES:
        folder = f"the results/build/{name}"
        expected |= {folder, f"{folder}/{name}.so", f"{folder}/build.json"}
    assert {path for path in left if "toolkit" not in path} == expected


BROKEN = {
    "syntax": (
        {"a.cpp": "", "b.cpp": "// b\nint one() { return 1 }"},
        r"the sources/b\.cpp:2:\d+: error: expected .;.",
    ),
    "missing header": (
        {"a.cc": '#include "nowhere.h"'},
        r"the sources/a\.cc:1:\d+: fatal error: .*nowhere\.h",
    ),
    "after a warning": (
        {"a.cpp": '#warning "no error: 1"\nstatic_assert(1 == 2, "one is not two");'},
        r"the sources/a\.cpp:2:\d+: error: .*one is not two",
    ),
    "undefined": (
        {"a.cpp": "int nowhere();\nint call() { return nowhere(); }"},
        r"\ba\.(cpp|o)\b.*undefined (reference|symbol).*\bnowhere\b",
    ),
    "defined twice": (
        {"a.cpp": "int twice() { return 1; }", "b.cpp": "int twice() { return 2; }"},
        r"\b[ab]\.(cpp|o)\b.*(multiple definition|duplicate symbol).*\btwice\b",
    ),
    # What registers operators may do as much: a schema that does not parse, a name taken.
    "not to be loaded": (
        {"a.cpp": '#include <stdexcept>\nint x = (throw std::runtime_error("\\nno schema"), 1);'},
        r"tiny-\d+\.x\.so: cannot be loaded: no schema",
    ),
    "CUDA syntax": (
        {"a.cpp": "", "b.cu": "// b\n__global__ void f() { int x = 1 }"},
        r"the sources/b\.cu\(2\): error: expected a .;.",
    ),
    "CUDA resources": (
        {"a.cu": "__global__ void f(int* x) { __shared__ int y[99999]; y[*x] = 1; *x = y[0]; }"},
        r"ptxas error.*too much shared data",
    ),
}


@pytest.mark.parametrize(
    ("files", "error"),
    [
        pytest.param(*case, id=name, marks=[needs_nvcc] if "CUDA" in name else [])
        for name, case in BROKEN.items()
    ],
)
def test_a_source_that_does_not_build_is_recorded_with_file_line_and_fault(
    compile_tiny: Compile,
    files: dict[str, str],
    error: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    status, record = compile_tiny(files)
    assert status == 0
    assert re.match(error, record["error"]), record["error"]
    assert "\n" not in record["error"]
    assert (record["sha256"], record["cuda"]["built"]) == (None, False)
    assert f"{record['library']}: {record['error']}\n" in capfd.readouterr().out
    has_no_path(json.dumps(record))


def test_paths_may_have_spaces(compile_tiny: Compile) -> None:
    status, record = compile_tiny({"a.cxx": "int one() { return 1; }"})
    assert (status, record["error"]) == (0, None)
    assert {"-O3", "-ffp-contract=off"} <= {*record["flags"]}
    assert [*record["sources"]] == ["the sources/a.cxx"]


def test_a_source_that_is_edited_meanwhile_is_not_recorded(
    compile_tiny: Compile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    compiler = tmp_path / "edits-first"
    edit = 'for word; do case "$word" in *a.cpp) echo "// Edited." >> "$word";; esac; done'
    compiler.write_text(f'#!/bin/sh\n{edit}\nexec c++ "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert compile_tiny({"a.cpp": "int one() { return 1; }\n"}) == (2, {})
    assert "its sources were edited meanwhile; run it again\n" in capfd.readouterr().err


def test_a_source_that_is_not_there_is_the_users_to_mend(
    compile_tiny: Compile, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert compile_tiny({"a.cpp": "", "b.cpp": None}) == (2, {})
    said = "the sources/b.cpp: missing; it is a source of the library tiny-"
    assert capfd.readouterr().err.startswith(f"opproof build: {said}")
    assert not (tmp_path / "the results").exists()


def test_a_folder_that_cannot_be_written_is_the_users_to_mend(
    compile_tiny: Compile, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "the results").write_text("in the way")
    assert compile_tiny({"a.cpp": ""}) == (2, {})
    assert "the results/build" in capfd.readouterr().err


def test_what_no_backend_needs_is_not_compiled(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"backends: [torch, python]\noutput: {tmp_path}/results\n")
    assert __main__.main(["build", "--config", str(config)]) == 0
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("tools", "compiler", "message"),
    [
        (["ninja"], None, "no C++ compiler: 'c++' is not on the PATH; install g++ or set CXX"),
        (
            ["ninja", "c++"],
            "/nowhere/g++",
            "no C++ compiler: '/nowhere/g++' is not on the PATH; install g++ or set CXX",
        ),
        (["c++"], None, "ninja is not on the PATH; install it with: pip install ninja"),
    ],
    ids=["no compiler", "CXX names none", "no ninja"],
)
def test_a_missing_tool_is_said_in_one_line(
    tmp_path: Path, tools: list[str], compiler: str | None, message: str
) -> None:
    # Tools beside python count too: this python is alone in its folder.
    python = linked(Path(sys.executable), tmp_path / "python" / "python")
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for tool in tools:
        linked(Path(shutil.which(tool, path=search) or ""), tmp_path / "tools" / tool)
    environment = {
        "PATH": str(tmp_path / "tools"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        **({"CXX": compiler} if compiler else {}),
    }
    result = subprocess.run(
        [python, "-m", "opproof", "build", "--config", config_in(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (result.stderr, result.stdout) == (f"opproof build: {message}\n", "")
    assert result.returncode == 2
    assert not (tmp_path / "the results").exists()


def test_a_build_killed_at_any_moment_leaves_whole_files_and_blocks_no_other(
    tmp_path: Path,
) -> None:
    moments = in_forks(
        tmp_path,
        """
        record = library.record_path(Path("results"), "tiny")
        moment = 1
        while killed := status(start("results", moment)):
            assert killed == -signal.SIGKILL
            if record.exists():
                digest("results")
            moment += 1
        digest("results")
        print(moment)
        """,
    )
    assert int(moments) > 10


def test_builds_at_once_end_alike(tmp_path: Path) -> None:
    in_forks(
        tmp_path,
        """
        children = [start("results") for _ in range(3)] + [start("elsewhere")]
        assert [status(child) for child in children] == [0, 0, 0, 0]
        # Equal wherever compiled: whoever writes last, library and record belong together.
        assert digest("results") == digest("elsewhere")
        """,
    )


@pytest.fixture
def compile_tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compile:
    """Return a function that builds a user's sources, given by name: it returns status and record.

    A source that is None is not there. The build is set by `build`, that of the settings.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.environ["PATH"])  # the build stage adds to it

    def compile_(
        files: dict[str, str | None], build: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        name = f"tiny-{next(_NUMBERS)}.x"
        entry = users_library(tmp_path, name, files)
        status = __main__.main(
            ["build", "--config", config_in(tmp_path, backends=[entry], build=build or {})]
        )
        record = library.record_path(tmp_path / "the results", name)
        return status, artifact.read_json(record) if record.exists() else {}

    return compile_


def users_library(folder: Path, name: str, files: dict[str, str | None]) -> dict[str, Any]:
    """Write the sources of a library, and return its entry of `backends`."""
    (folder / "the sources").mkdir(exist_ok=True)
    for source, text in files.items():
        if text is not None:
            (folder / "the sources" / source).write_text(f"{text}\n")
    op = f"{re.sub('[^a-z]', '_', name)}::f"
    return {"name": name, "op": op, "sources": [f"the sources/{source}" for source in files]}


def has_no_path(text: str) -> None:
    """Check that a record names nothing of this machine, where it was made or is kept."""
    assert not re.findall(r"(?<![\w.])/[\w.]+", text)
    for path in (Path.cwd(), CSRC, sys.prefix, torch.__path__[0], tempfile.gettempdir()):
        assert str(path) not in text


def config_in(folder: Path, **keys: Any) -> str:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"output": f"{folder}/the results", **keys}))
    return str(path)


def linked(target: Path, link: Path) -> Path:
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(target)
    return link


def first_line(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()[0]


def in_forks(folder: Path, steps: str) -> str:
    """Run steps after _FORKS in a fresh process, and return what they print last."""
    (folder / "tiny.cpp").write_text("int tiny() { return 1; }\n")
    code = _FORKS + "\n".join(line.removeprefix(" " * 8) for line in steps.splitlines())
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    return result.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        ("cc1plus: out of memory allocating 65536 bytes", None),
        ("x.cpp:1: error: closing dependency file: No space left on device", None),
        ("c++: fatal error: Killed signal terminated program cc1plus", None),
        ("ninja: build stopped: subcommand failed.", None),
        ("nvcc fatal   : Unsupported gpu architecture 'compute_35'", None),
        ("nvcc error   : 'cicc' died due to signal 9 (Kill signal)", None),
        ("ptxas fatal   : Memory allocation failure", None),
        ("ptxas info    : 0 bytes gmem", None),
        ("x\nptxas fatal   : Unresolved extern function 'f'\n", "ptxas fatal   : Unresolved ex"),
        ("/a b/x.cu(3): error: no\n", "/a b/x.cu(3): error: no"),
        ("/x.cuh(3): warning: y\n/x.cu(4): error #20-D: no\n", "/x.cu(4): error #20-D: no"),
    ],
)
def test_what_is_not_the_sources_fault_is_no_finding(output: str, fault: str | None) -> None:
    found = build._first_error(output)
    assert found is None if fault is None else found and found.startswith(fault)


@pytest.mark.parametrize(
    ("fault", "shown"),
    [
        (f"{CSRC}/activations/gelu.h:3:1: error: x", "csrc/activations/gelu.h:3:1: error: x"),
        (f"{Path.cwd()}/mine/a.cu(3): error: x", "mine/a.cu(3): error: x"),
        ("/home/me/a.cpp:3:1: error: '/' or a/b", "a.cpp:3:1: error: '/' or a/b"),
        ("/usr/include/c++/12/cmath:3:1: error: x", "cmath:3:1: error: x"),
        ("a.cpp:3: error: (at /opt/x/y.h:5), '/z/y'", "a.cpp:3: error: (at y.h:5), 'y'"),
        ("mine/a.cpp:3:1: error: ../b.h", "mine/a.cpp:3:1: error: ../b.h"),
        ("no schema: see https://x.org/a/b.md", "no schema: see https://x.org/a/b.md"),
    ],
)
def test_a_fault_is_shown_without_paths_of_the_machine(fault: str, shown: str) -> None:
    assert build._without_paths(fault) == shown


KERNEL, OTHER = "_Z5twicePf", "_ZN7opproof6kernelIfEEvPT_"
PTXAS = f"""
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{KERNEL}' for 'sm_80'
ptxas info    : Function properties for {KERNEL}
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers, 360 bytes cmem[0]
ptxas info    : Compiling entry function '{OTHER}' for 'sm_90a'
ptxas info    : Function properties for {OTHER}
    16 bytes stack frame, 12 bytes spill stores, 28 bytes spill loads
ptxas info    : Used 255 registers
"""


def test_kernels_are_those_of_the_compilers_report() -> None:
    assert build._kernels(PTXAS) == [
        {"kernel": KERNEL, "arch": "sm_80", "registers": 8, "spilled": 0},
        {"kernel": OTHER, "arch": "sm_90a", "registers": 255, "spilled": 40},
    ]
    assert build._kernels("") == []


@pytest.mark.parametrize(
    ("nvcc", "torchs", "reason"),
    [
        ("13.0", "13.0", None),
        ("13.2", "13.0", None),
        (None, "13.0", "there is no nvcc that works, in CUDA_HOME or on the PATH"),
        ("12.8", "13.0", f"nvcc is of CUDA 12.8, torch {torch.__version__} of CUDA 13.0"),
        ("13.0", None, f"torch {torch.__version__} is one without CUDA"),
        (None, None, f"torch {torch.__version__} is one without CUDA"),
    ],
)
def test_cuda_is_compiled_where_it_can_be_and_as_the_settings_say(
    monkeypatch: pytest.MonkeyPatch, nvcc: str | None, torchs: str | None, reason: str | None
) -> None:
    monkeypatch.setattr(torch.version, "cuda", torchs)
    monkeypatch.setattr(toolchain, "nvcc_version", lambda: nvcc)
    with_cuda, without = Library("a", ("a.cpp", "a.cu")), Library("b", ("b.cpp",))

    def why(entry: Library, cuda: str) -> str | None:
        return build._why_without_cuda(entry, settings.Build(cuda, "9.0"))

    assert why(with_cuda, "auto") == reason
    assert why(with_cuda, "off") == "cuda is off in the settings"
    assert [why(without, cuda) for cuda in ("auto", "on", "off")] == ["it has no CUDA source"] * 3
    if reason is None:
        assert why(with_cuda, "on") is None
    else:
        with pytest.raises(UserError) as raised:
            why(with_cuda, "on")
        assert str(raised.value) == f"build.cuda is on, but {reason}; allowed: auto, off"


def test_cuda_that_must_be_and_cannot_is_one_message(
    compile_tiny: Compile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert compile_tiny({"a.cpp": "", "a.cu": ""}, {"cuda": True}) == (2, {})
    said = "there is no nvcc that works, in CUDA_HOME or on the PATH; allowed: auto, off"
    assert capfd.readouterr() == ("", f"opproof build: build.cuda is on, but {said}\n")
    assert not (tmp_path / "the results").exists()


def test_cuda_that_is_off_is_left_out_and_that_is_said(
    compile_tiny: Compile, capfd: pytest.CaptureFixture[str]
) -> None:
    status, record = compile_tiny({"a.cpp": "", "a.cu": "no CUDA"}, {"cuda": False})
    assert (status, record["error"]) == (0, None)
    reason = "cuda is off in the settings"
    assert record["cuda"] == {"built": False, "reason": reason}
    assert f"{record['library']}: built without CUDA: {reason}\n" in capfd.readouterr().out
    status, record = compile_tiny({"a.cu": ""}, {"cuda": False})
    assert status == 0
    assert record["error"] == f"all its sources are CUDA's, which is left out: {reason}"


@needs_nvcc
@pytest.mark.parametrize(
    ("archs", "message"),
    [
        ("9.9", "build.cuda_arch_list: '9.9': Unknown CUDA arch (9.9) or GPU not supported"),
        ("3.5", "the compiler failed, not for a fault of the source: nvcc fatal   : Unsupported"),
    ],
)
def test_a_gpu_that_torch_or_nvcc_does_not_know_is_the_users_to_mend(
    compile_tiny: Compile, capfd: pytest.CaptureFixture[str], archs: str, message: str
) -> None:
    assert compile_tiny({"a.cu": ""}, {"cuda_arch_list": archs}) == (2, {})
    assert message in capfd.readouterr().err


# Compiled side by side into files of the same name, and with its own name, the machine's, in it.
OURS = {
    "ours.cu": """#include "ours.h"
    __global__ void twice(float* x) { x[threadIdx.x] *= TWO; }
    namespace { __global__ void hidden(float* x) { x[threadIdx.x] += TWO; } }
    const char* call(float* x) { twice<<<1, 32>>>(x); hidden<<<1, 32>>>(x); return __FILE__; }""",
    "ours.cpp": "const char* name() { return __FILE__; }",
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a user's library was built beside one that does not compile, as jobs do."""
    folder = tmp_path_factory.mktemp("a, b")
    broken = users_library(folder, "broken", {"broken.cpp": "no C++"})
    mine = users_library(folder, "ours", OURS)
    (folder / "the sources" / "ours.h").write_text("#define TWO 2\n")
    keys = {"backends": [broken, mine], "build": {"cuda_arch_list": "8.0;9.0+PTX"}}
    frozen = config.load(Path(config_in(folder, **keys)))
    frozen.freeze()
    build_in(folder, frozen.frozen_path)
    return folder


def build_in(folder: Path, frozen: Path, *options: str) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", arguments.FROZEN_CONFIG: str(frozen)}
    command = [sys.executable, "-m", "opproof", "build", *options]
    subprocess.run(command, cwd=folder, env=environment, check=True)


@needs_nvcc
def test_a_users_cuda_is_compiled_for_the_gpus_of_the_settings(ours: Path) -> None:
    path = library.record_path(ours / "the results", "ours")
    record = artifact.read_json(path)
    assert record["error"] is None
    names = [f"the sources/{name}" for name in ("ours.cu", "ours.cpp", "ours.h")]
    assert sorted(record["sources"]) == sorted(names)
    cuda = record["cuda"]
    assert (cuda["built"], cuda["arch_list"]) == (True, "8.0;9.0+PTX")
    assert cuda["nvcc"] == toolchain.nvcc_version()
    assert {word for word in cuda["flags"] if "gencode" in word} == {
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90,code=sm_90",
        "-gencode=arch=compute_90,code=compute_90",
    }
    assert {"-O3", "-fmad=false"} <= {*cuda["flags"]}
    assert {"-O3", "-ffp-contract=off"} <= {*record["flags"]}
    kernels = [(kernel["arch"], "twice" in kernel["kernel"]) for kernel in cuda["kernels"]]
    assert sorted(kernels) == [(arch, one) for arch in ("sm_80", "sm_90") for one in (False, True)]
    assert all(kernel["registers"] > 0 == kernel["spilled"] for kernel in cuda["kernels"])
    has_no_path(path.read_text())
    assert str(ours).encode() not in path.with_name("ours.so").read_bytes()


def test_a_library_that_does_not_compile_stops_no_other(ours: Path) -> None:
    broken = artifact.read_json(library.record_path(ours / "the results", "broken"))
    assert broken["error"].startswith("the sources/broken.cpp:1:1: error: ")
    assert library.record_path(ours / "the results", "ours").with_name("ours.so").exists()


@needs_nvcc
def test_cuda_built_again_has_the_same_bytes(ours: Path) -> None:
    built = library.record_path(ours / "the results", "ours").with_name("ours.so")
    before = built.read_bytes()
    built.unlink()
    (frozen,) = (ours / "the results" / "config").iterdir()
    build_in(ours, frozen, "--library", "ours")
    assert built.read_bytes() == before


@needs_nvcc
def test_sources_over_an_activation_are_compiled_for_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    csrc = tmp_path / "c, src"
    (csrc / "activations").mkdir(parents=True)
    (csrc / "activations" / "a.h").write_text("#define VALUE 3\n")
    for source, scope in (("over.cpp", "cpu"), ("over.cu", "cuda")):
        text = f"#include OPPROOF_ACTIVATION\nnamespace {scope} {{ int OPPROOF_LIBRARY = VALUE; }}"
        (csrc / source).write_text(f"{text}\n")
    for module in (build, sources):
        monkeypatch.setattr(module, "CSRC", csrc)
    monkeypatch.setenv("PATH", os.environ["PATH"])
    name = f"over_{next(_NUMBERS)}"
    entry = Library(name, ("over.cpp", "over.cu"), header="a.h")
    build.build(entry, settings.Build("on", "9.0"), tmp_path)
    record = artifact.read_json(library.record_path(tmp_path, name))
    assert (record["error"], record["stable_abi"], record["cuda"]["built"]) == (None, True, True)
    assert sorted(record["sources"]) == ["activations/a.h", "over.cpp", "over.cu"]
    for flags in (record["flags"], record["cuda"]["flags"]):
        defined = {'-DOPPROOF_ACTIVATION="activations/a.h"', f"-DOPPROOF_LIBRARY=opproof_{name}"}
        assert {*defined, "-DTORCH_TARGET_VERSION=0x020b000000000000"} <= {*flags}
    has_no_path(json.dumps(record))
