"""Inputs that are dated later than now are set back, or named."""

import os
import time
from pathlib import Path

import pytest

from opproof import clock

HOURS = 2 * 3600 * 10**9  # nanoseconds


@pytest.fixture
def newest(tmp_path: Path) -> Path:
    """A file that was written just now."""
    path = tmp_path / "newest"
    path.touch()
    return path


def dated(path: Path, newest: Path, ahead: int) -> Path:
    """Make a file that is younger than `newest` by so many nanoseconds."""
    path.touch()
    at = newest.stat().st_mtime_ns + ahead
    os.utime(path, ns=(at, at))
    return path


def test_the_future_is_set_back_and_told(tmp_path: Path, newest: Path) -> None:
    file = dated(tmp_path / "file", newest, HOURS + 5 * 10**9)
    said = f"{file}: dated 2:00:05 later than now; set back, since jobs that read it would fail"
    assert clock.set_back([file, tmp_path / "absent"], newest) == [said]
    assert file.stat().st_mtime_ns == newest.stat().st_mtime_ns
    assert clock.set_back([file], newest) == []


@pytest.mark.parametrize("ahead", [-HOURS, 0, 10**8])
def test_what_is_not_from_the_future_stays(tmp_path: Path, newest: Path, ahead: int) -> None:
    file = dated(tmp_path / "file", newest, ahead)
    before = file.stat().st_mtime_ns
    assert clock.set_back([file], newest) == []
    assert file.stat().st_mtime_ns == before


def test_now_is_what_the_file_system_says(tmp_path: Path, newest: Path) -> None:
    """Where its clock is two hours ahead, nothing is from the future."""
    at = time.time_ns() + HOURS
    os.utime(newest, ns=(at, at))
    assert clock.set_back([dated(tmp_path / "file", newest, 0)], newest) == []


def test_what_cannot_be_dated_is_named_with_what_to_do(
    tmp_path: Path, newest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = dated(tmp_path / "file", newest, HOURS)

    def utime(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", utime)
    assert clock.set_back([file], newest) == [
        f"{file}: dated 2:00:00 later than now; Operation not permitted: jobs that read it fail "
        f"until then, or until: touch {file}"
    ]
