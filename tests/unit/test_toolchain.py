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
        ("#!/bin/sh\necho 'g++: not allowed' >&2\nexit 1\n", 0o755, ""),
        ("not to be run\n", 0o644, None),
        (None, 0, None),
    ],
    ids=["first line", "says nothing", "not executable", "missing"],
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
    assert toolchain.compiler() == (None if version is None else str(path))
    assert toolchain.describe()["compiler"] == version


def test_cxx_may_be_a_name_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-c++").symlink_to(shutil.which("true") or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "my-c++")
    assert toolchain.compiler() == str(tmp_path / "my-c++")


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
