"""Who may read and write what is made, and whose files are refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from opproof import permissions
from opproof.errors import UserError

CODE = """
import sys
from opproof import permissions
permissions.keep_private()
open("file", "w").close()
"""


@pytest.mark.parametrize(
    ("umask", "mode"), [(0, 0o640), (0o022, 0o640), (0o077, 0o600), (0o002, 0o640), (0o067, 0o600)]
)
def test_only_the_group_may_read_or_whom_the_user_lets(
    tmp_path: Path, umask: int, mode: int
) -> None:
    subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, umask=umask, check=True)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_a_stage_and_what_it_starts_are_private(tmp_path: Path) -> None:
    """Here git, which makes folders by itself."""
    code = """
import subprocess
from opproof import __main__, summary
summary.main = lambda arguments: subprocess.run(["git", "init", "-q", "made"]).returncode
raise SystemExit(__main__.main(["summary"]))
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, umask=0, check=True)
    assert all(path.lstat().st_mode & 0o027 == 0 for path in tmp_path.rglob("*"))
    assert (tmp_path / "made/.git/HEAD").exists()


def test_a_folder_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o2777)
    permissions.close(tmp_path)
    assert tmp_path.stat().st_mode & 0o7777 == 0o2700
    permissions.close(tmp_path / "absent")


def test_a_folder_of_somebody_else_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o777)
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    permissions.close(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o777


@pytest.mark.parametrize("mode", [0o777, 0o702, 0o1777, 0o602])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_everybody_may_write_is_refused(tmp_path: Path, mode: int, kind: str) -> None:
    path = tmp_path / "a b"
    path.mkdir() if kind == "folder" else path.touch()
    path.chmod(mode)
    with pytest.raises(UserError) as raised:
        permissions.require_closed(tmp_path, path)
    assert str(raised.value).startswith(f"{path}: everybody can write to it")
    command = str(raised.value).partition("; run: ")[2]
    subprocess.run(["sh", "-c", command], check=True)
    permissions.require_closed(tmp_path, path)


def test_what_a_group_may_write_is_not_refused_nor_what_is_not_there(tmp_path: Path) -> None:
    tmp_path.chmod(0o2775)
    permissions.require_closed(tmp_path, tmp_path / "absent")
    permissions.require_own(tmp_path, tmp_path / "absent")


def test_what_is_another_users_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(UserError, match="belongs to another user, whose code") as raised:
        permissions.require_own(tmp_path / "absent", tmp_path)
    assert str(raised.value).startswith(f"{tmp_path}: ")
