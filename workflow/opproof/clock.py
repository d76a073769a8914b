"""Files that are dated later than now: by another machine's clock, or out of an archive.

Snakemake fails a job whose output is older than one of its inputs.
"""

import os
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

_SECOND = 10**9  # nanoseconds


def set_back(files: Iterable[Path], newest: Path) -> list[str]:
    """Date the files that are younger than `newest`, written just now, like it.

    Files that are not there are passed over, and those that are younger by less than a second, in
    which no job ends. Returns a line for the user on each of the others.
    """
    now = newest.stat().st_mtime_ns
    said = []
    for file in files:
        try:
            ahead = file.stat().st_mtime_ns - now
        except FileNotFoundError:
            continue
        if ahead >= _SECOND:
            by = timedelta(seconds=ahead // _SECOND)
            said.append(f"{file}: dated {by} later than now; {_set_back(file, now)}")
    return said


def _set_back(file: Path, now: int) -> str:
    try:
        os.utime(file, ns=(now, now))
    except OSError as error:
        return f"{error.strerror}: jobs that read it fail until then, or until: touch {file}"
    return "set back, since jobs that read it would fail"
