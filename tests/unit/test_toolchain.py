"""What the Snakefile asks about compiler and torch, without importing torch."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from opproof import toolchain


@pytest.mark.parametrize(
    ("compiler", "mode", "version"),
    [
        ("#!/bin/sh\necho 'g++ (Made up) 99.1'\necho 'Copyright'\n", 0o755, "g++ (Made up) 99.1"),
        ("#!/bin/sh\necho 'g++: not allowed' >&2\nexit 1\n", 0o755, None),
        ("no program\n", 0o755, None),
        ("not to be run\n", 0o644, None),
        (None, 0, None),
    ],
    ids=["first line", "says nothing", "another machine's", "not executable", "missing"],
)
@pytest.mark.parametrize("by", ["CXX", "PATH"])
def test_the_compiler_is_that_of_cxx_or_else_the_c_plus_plus_of_the_path(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compiler: str | None,
    mode: int,
    version: str | None,
    by: str,
) -> None:
    path = tmp_path / "c++"
    if compiler:
        path.write_text(compiler)
        path.chmod(mode)
    if by == "CXX":
        monkeypatch.setenv("CXX", str(path))
    else:
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
    assert toolchain.compiler() == (str(path) if mode & 0o100 else None)
    assert toolchain.describe()["compiler"] == version


def test_cxx_may_be_a_name_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-c++").symlink_to(shutil.which("true") or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "my-c++")
    assert toolchain.compiler() == str(tmp_path / "my-c++")


# As of the real one, which says where its toolkit lies, wherever a link or script of it does.
NVCC = """#!/bin/sh
case "$1" in
    --version) echo 'Cuda compilation tools, release {}, V{}.88' ;;
    --dryrun) echo '#$ TOP={}/toolkit/bin/..' >&2 ;;
esac
"""


@pytest.mark.parametrize(
    ("home", "on_path", "version", "toolkit"),
    [
        ("A", False, "12.8", "A/toolkit"),
        ("A", True, "12.8", "A/toolkit"),
        ("nowhere", True, None, None),
        (None, True, "13.0", "B/toolkit"),
        ("", True, "13.0", "B/toolkit"),
    ],
)
@pytest.mark.parametrize("variable", ["CUDA_HOME", "CUDA_PATH"])
def test_nvcc_is_that_of_cuda_home_or_else_of_the_path(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    home: str | None,
    on_path: bool,
    version: str | None,
    toolkit: str | None,
) -> None:
    for name, release in (("A", "12.8"), ("B", "13.0")):
        program(tmp_path / name / "bin" / "nvcc", NVCC.format(release, release, tmp_path / name))
        (tmp_path / name / "toolkit" / "bin").mkdir(parents=True)
    for unset in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(unset, raising=False)
    if home is not None:
        monkeypatch.setenv(variable, home and str(tmp_path / home))
    monkeypatch.setenv("PATH", str(tmp_path / "B" / "bin") if on_path else "")
    assert toolchain.nvcc_version() == toolchain.describe()["nvcc"] == version
    assert toolchain.cuda_home() == (toolkit and str(tmp_path / toolkit))
    assert (toolchain.nvcc() is None) == (version is None)


@pytest.mark.parametrize(
    "text",
    ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho 'command not found' >&2\nexit 127\n", "no program\n"],
    ids=["fails", "a module that is not loaded", "another machine's"],
)
def test_an_nvcc_that_does_not_work_has_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    program(tmp_path / "bin" / "nvcc", text)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert toolchain.nvcc() == str(tmp_path / "bin" / "nvcc")
    assert toolchain.nvcc_version() is None
    assert toolchain.cuda_home() == str(tmp_path)


def test_an_nvcc_that_does_not_say_where_it_is_lies_in_its_toolkit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "toolkit" / "bin" / "nvcc", NVCC.replace("TOP=", "NO=").format(1, 1, 1))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvcc").symlink_to(tmp_path / "toolkit" / "bin" / "nvcc")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert toolchain.cuda_home() == str(tmp_path / "toolkit")


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(0o755)


def test_versions_are_found_without_importing_torch() -> None:
    code = (
        "import json, sys; from opproof import toolchain;"
        "print(json.dumps([toolchain.describe(), 'torch' in sys.modules]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True
    )
    versions, imported = json.loads(result.stdout)
    assert not imported
    assert versions["compiler"] == toolchain.compiler_version()
    # The installed version may leave out what torch says of its CUDA: 2.14.1 for 2.14.1+cu130.
    assert torch.__version__.split("+")[0] == versions["torch"].split("+")[0]
