"""Finds what is damaged among the files of earlier runs, for the next one to make it again.

Snakemake sees only whether a file is there, and when it was written.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opproof import artifact
from opproof.errors import UserError

# What the stages leave, below the output folder: records that have the digests of themselves and
# of the files beside them. Not a run's state, which is looked at by who goes on with the run.
_RECORDS = (
    "build/*/build.json",
    "verify/*.json",
    "train/*/*/block.json",
    "timing/*.json",
    "summary.json",
)


def remove(output: Path) -> list[str]:
    """Remove the records that have a fault; return a line on each, for the user.

    To be called before Snakemake looks which files are there.
    """
    removed = []
    for record in (path for pattern in _RECORDS for path in sorted(output.glob(pattern))):
        if said := fault(record):
            record.unlink(missing_ok=True)
            what, _, _advice = said.rpartition("; ")
            removed.append(f"{what}; it is made again")
    return removed


def fault(record: Path) -> str | None:
    """Say that a record, or a file beside it, is damaged or missing, and what to do; else None."""
    try:
        for name, digest in _files(artifact.read_json(record)):
            artifact.check_digest(record.parent / name, digest)
    except UserError as error:
        return str(error)
    return None


def _files(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and SHA-256 of the files beside a record."""
    yield from record.get("files", {}).items()  # a summary's
    # A library's; those of a block's runs and controls.
    for entry in (record, *record.get("runs", []), *record.get("controls", [])):
        if entry.get("sha256"):
            yield entry["file"], entry["sha256"]
