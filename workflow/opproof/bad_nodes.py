"""The nodes of a cluster whose GPU did not work, listed for the retries of a run to avoid."""

import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

from opproof import artifact

# Names reach sbatch's command line, which is a shell's.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def this_node() -> str | None:
    """Return what SLURM calls the node that this process runs on; None outside its jobs."""
    name = os.environ.get("SLURMD_NODENAME", "")
    return name if _NAME.fullmatch(name) else None


def add(output: Path, name: str, host: str, why: str) -> None:
    """List a node. Raises UserError if that can't be written."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    artifact.write_json(_folder(output) / name, {"host": host, "when": when, "why": why})


def clear(output: Path) -> None:
    """Forget all of them: a node may have been mended."""
    shutil.rmtree(_folder(output), ignore_errors=True)


def exclusion(output: Path, others: str = "") -> str | None:
    """Return sbatch's option that keeps a job off the nodes, None if none is listed.

    `others`, between commas, are excluded with them: of two such options sbatch takes the last.
    """
    listed = {path.name for path in _folder(output).glob("*")}
    names = sorted(filter(_NAME.fullmatch, listed))
    if not names:
        return None
    more = sorted(filter(_NAME.fullmatch, {name.strip() for name in others.split(",")} - listed))
    return f"--exclude={','.join([*names, *more])}"


def _folder(output: Path) -> Path:
    return output / "state" / "bad-nodes"
