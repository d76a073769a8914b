"""The files that a library is compiled from: when one of them changes, it is compiled again."""

import re
from pathlib import Path

from opproof import artifact
from opproof.paths import CSRC
from opproof.settings import Library

_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def compiled(library: Library) -> list[Path]:
    """Return the sources that the compiler is called with, in the order of the settings."""
    return [folder(library) / source for source in library.sources]


def folder(library: Library) -> Path:
    """Return the folder that the library's sources are named from."""
    return Path() if library.user and library.header is None else CSRC


def header(library: Library) -> Path | None:
    """Return the activation that the sources are compiled for, None where they are for none."""
    if library.header is None:
        return None
    return Path(library.header) if library.user else CSRC / "activations" / library.header


def files(library: Library) -> list[Path]:
    """Return all files: sources, header, and what these include by a name in quotes."""
    pending, found = [*compiled(library), *filter(None, [header(library)])], {}
    while pending:
        path = pending.pop(0)
        # One file has many names: a/x.h is a/../a/x.h, which is how headers find each other.
        if path.resolve() not in found:
            found[path.resolve()] = path
            pending.extend(_included(path))
    return list(found.values())


def digest(library: Library) -> str:
    """Return the SHA-256, in hex, of all files that are there, whatever their folder."""
    there = [path for path in files(library) if path.is_file()]
    return artifact.json_digest([(path.name, artifact.file_digest(path)) for path in there])


def _included(path: Path) -> list[Path]:
    """Return the files that the quoted includes of `path` name, beside it or else in csrc/."""
    try:
        names = _INCLUDE.findall(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return []  # missing: for the rule, or the compiler, to say
    places = ((path.parent / name, CSRC / name) for name in names)
    found = (next((file for file in pair if file.is_file()), None) for pair in places)
    return [file for file in found if file]
