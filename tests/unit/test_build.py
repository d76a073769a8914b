"""The build stage, with the machine's own compiler and ninja."""

import itertools
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

from opproof import __main__, artifact, backends, build, library
from opproof.paths import CSRC

Build = Callable[[dict[str, str]], tuple[int, dict[str, Any]]]

_NUMBERS = itertools.count()  # torch compiles a library of one name once in a process

# Builds a library that needs no torch to compile, in processes that are forked from this one.
_FORKS = """
import os
import signal
import sys
from pathlib import Path

import torch.utils.cpp_extension
from opproof import artifact, backends, build, library

build.CSRC = Path.cwd()
backends.LIBRARIES["tiny"] = ("tiny.cpp",)
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
    build.build("tiny", Path(folder))
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
        (folder / "config.yaml").write_text("output: the results\n")
        environment = {
            "CUDA_VISIBLE_DEVICES": "",
            "CUDA_HOME": str(toolkit),
            "TMPDIR": str(folder),
        }
        command = [sys.executable, "-m", "opproof", "build"]
        subprocess.run(command, cwd=folder, env={**os.environ, **environment}, check=True)
    return output


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory)


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
        "cuda": torch.version.cuda,
        "cxx11_abi": torch.compiled_with_cxx11_abi(),
        "compiler": first_line(os.environ.get("CXX", "c++"), "--version"),
        "cuda_arch_list": None,
    }
    assert {"-O3", "-ffp-contract=off", "-fPIC", "-DTORCH_EXTENSION_NAME=aten_gelu"} <= {*flags}
    assert sum(flag.startswith("-std=c++") for flag in flags) == 1
    assert not [flag for flag in flags if re.match("-(ffast-math|Ofast|march|mtune|I|L)", flag)]


def test_the_record_has_no_path_of_the_machine(output: Path) -> None:
    text = library.record_path(output, "aten_gelu").read_text()
    for path in (output.parent, CSRC, sys.prefix, torch.__path__[0], tempfile.gettempdir()):
        assert str(path) not in text


def test_nothing_but_the_library_and_its_record_is_left(output: Path) -> None:
    left = {str(path.relative_to(output.parent)) for path in output.parent.rglob("*")}
    folder = "the results/build/aten_gelu"
    assert {path for path in left if "toolkit" not in path} == {
        "config.yaml",
        "the results",
        "the results/build",
        folder,
        f"{folder}/aten_gelu.so",
        f"{folder}/build.json",
    }


@pytest.mark.parametrize(
    ("sources", "error"),
    [
        ({"a": "", "b": "// b\nint one() { return 1 }"}, r"\bb\.cpp:2:\d+: error: expected .;."),
        ({"a": '#include "nowhere.h"'}, r"\ba\.cpp:1:\d+: fatal error: .*nowhere\.h"),
        (
            {"a": '#warning "no error: 1"\nstatic_assert(1 == 2, "one is not two");'},
            r"\ba\.cpp:2:\d+: error: .*one is not two",
        ),
        (
            {"a": "int nowhere();\nint call() { return nowhere(); }"},
            r"\ba\.(cpp|o)\b.*undefined (reference|symbol).*\bnowhere\b",
        ),
        (
            {"a": "int twice() { return 1; }", "b": "int twice() { return 2; }"},
            r"\b[ab]\.(cpp|o)\b.*(multiple definition|duplicate symbol).*\btwice\b",
        ),
    ],
    ids=["syntax", "missing header", "after a warning", "undefined", "defined twice"],
)
def test_a_source_that_does_not_build_is_recorded_with_file_line_and_fault(
    compile_tiny: Build,
    sources: dict[str, str],
    error: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    status, record = compile_tiny(sources)
    assert status == 0
    assert re.search(error, record["error"])
    assert "\n" not in record["error"]
    assert record["sha256"] is None
    assert f"{record['library']}: {record['error']}\n" in capfd.readouterr().out


def test_paths_may_have_spaces(compile_tiny: Build) -> None:
    status, record = compile_tiny({"a": "int one() { return 1; }"})
    assert (status, record["error"]) == (0, None)


def test_a_folder_that_cannot_be_written_is_the_users_to_mend(
    compile_tiny: Build, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "the results").write_text("in the way")
    assert compile_tiny({"a": ""}) == (2, {})
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
def compile_tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Return a function that builds sources, given by name, and returns status and record."""

    def compile_(sources: dict[str, str]) -> tuple[int, dict[str, Any]]:
        name = f"tiny_{next(_NUMBERS)}"
        folder = tmp_path / "the sources"
        folder.mkdir()
        for source, text in sources.items():
            (folder / f"{source}.cpp").write_text(f"{text}\n")
        monkeypatch.setitem(backends.LIBRARIES, name, tuple(f"{source}.cpp" for source in sources))
        monkeypatch.setattr(build, "CSRC", folder)
        monkeypatch.setenv("PATH", os.environ["PATH"])  # the build stage adds to it
        command = ["build", "--config", config_in(tmp_path), "--library", name]
        status = __main__.main(command)
        record = library.record_path(tmp_path / "the results", name)
        return status, artifact.read_json(record) if record.exists() else {}

    return compile_


def config_in(folder: Path) -> str:
    path = folder / "config.yaml"
    path.write_text(f"output: {folder}/the results\n")
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
    "output",
    [
        "cc1plus: out of memory allocating 65536 bytes",
        "x.cpp:1: error: closing dependency file: No space left on device",
        "c++: fatal error: Killed signal terminated program cc1plus",
        "ninja: build stopped: subcommand failed.",
    ],
)
def test_what_is_not_the_sources_fault_is_no_finding(output: str) -> None:
    assert build._first_error(output) is None
