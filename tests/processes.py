"""Looks for processes: what a test leaves behind, or is to be ended."""

from collections.abc import Iterator
from pathlib import Path


def processes_with(words: str, folder: Path) -> Iterator[int]:
    """Yield the processes whose command line holds `words` and that work in `folder`."""
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if words in command and (process / "cwd").readlink() == folder:
                yield int(process.name)
        except (OSError, ValueError):
            continue
