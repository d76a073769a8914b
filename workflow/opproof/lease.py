"""The right to write in a place: the newest attempt that takes it has it.

Two attempts at one thing are at work at once where a killed controller has left its job behind, or
where SLURM starts a job again while the old process lives on, on a node that it has lost sight of.
The older one finds, at its next check, that it has lost the right, and ends by itself.

It may lose it between a check and the rename that follows, and write once more. That does no harm:
files are whole, a run's state is the same whoever writes it, since its folder is named by all that
determines it, and a job's outputs the newer attempt, which is only about to begin, writes anew.
"""

import os
import secrets
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from opproof import artifact
from opproof.errors import UserError


@dataclass(frozen=True)
class Attempt:
    """Who has the right; `token` is by chance, `since` is UTC, in ISO 8601."""

    token: str
    host: str
    pid: int
    slurm_job: str | None
    since: str

    def __str__(self) -> str:
        job = f", SLURM job {self.slurm_job}" if self.slurm_job else ""
        return f"pid {self.pid} on host {self.host}{job}, since {self.since}"


@dataclass(frozen=True)
class Lease:
    """The right of `attempt` to write `target`, a file or a folder; written down in `file`."""

    target: Path
    file: Path
    attempt: Attempt

    def check(self) -> None:
        """Return if the attempt still has the right. Raises UserError, saying who has it, if not.

        Where that can't be read, the right is lost, too.
        """
        try:
            holder = Attempt(**artifact.read_json(self.file))
        except (UserError, TypeError) as error:
            raise UserError(
                f"{self.target}: lost the right to write there ({error}); run the pipeline again"
            ) from error
        if holder != self.attempt:
            raise UserError(
                f"{self.target}: another attempt has taken over ({holder}); this one ends"
            )


def take(output: Path, target: Path) -> Lease:
    """Take the right to write `target`, below `output`, from whoever has it.

    Removes the temporary files that earlier attempts have left there. Raises UserError if the right
    can't be written down.
    """
    lease = Lease(target, _file(output, target), _this_attempt())
    artifact.write_json(lease.file, asdict(lease.attempt))
    artifact.sweep(target)
    return lease


def _file(output: Path, target: Path) -> Path:
    return (output / "state" / "leases" / target.relative_to(output)).with_suffix(".json")


def _this_attempt() -> Attempt:
    return Attempt(
        token=secrets.token_hex(8),
        host=socket.gethostname(),
        pid=os.getpid(),
        slurm_job=os.environ.get("SLURM_JOB_ID"),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
    )
