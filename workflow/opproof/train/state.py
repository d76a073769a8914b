"""What a run leaves between attempts: a checkpoint while it trains, its record once it has ended.

A run's folder is named by a digest of all that determines the run, so a retry, a resume, another
seeds_per_job or two more seeds find the runs that are already there, and nothing else.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from opproof import artifact, lease
from opproof.errors import UserError
from opproof.lease import Lease


@dataclass(frozen=True)
class RunRecord:
    """How a run ended.

    failure: None, or why it stopped before its end.
    arrays: loss (float32, [steps]), accuracy (float64, per cent, [epochs]), and the classes that
    are predicted (uint8, [10000]) after the first epoch, first_predictions, and after the last,
    predictions; of the steps and epochs that were done.
    measurements: what depends on clock and hardware; times in seconds, memory in bytes.
    final: whether training again would end alike; not where the operator raised.
    """

    failure: str | None
    arrays: dict[str, np.ndarray]
    measurements: dict[str, Any]
    final: bool = True


class RunState:
    """The folder of one run; who goes on with the run takes it over first."""

    def __init__(self, output: Path, digest: str, seed: int) -> None:
        self.folder = output / "state" / digest / str(seed)
        self._output = output
        self._leases: tuple[Lease, ...] = ()

    @property
    def arrays_path(self) -> Path:
        """Where the arrays of an ended run are."""
        return self.folder / "run.npz"

    def ended(self) -> RunRecord | None:
        """Return the record of the run if it has ended, None if it has not or is damaged."""
        try:
            record = artifact.read_json(self.folder / "run.json")
            arrays = artifact.read_arrays(self.arrays_path, record["sha256"])
        except UserError:
            return None
        return RunRecord(record["failure"], arrays, record["measurements"])

    def take_over(self, job: Lease) -> None:
        """Take the right to write here, which ends with the lease `job` of the job.

        Raises UserError if that can't be written down.
        """
        self._leases = (job, lease.take(self._output, self.folder))

    def check(self) -> None:
        """Raise UserError if another attempt has taken over the run, or the job that trains it."""
        for held in self._leases:
            held.check()

    def save_record(self, record: RunRecord) -> None:
        """Keep the record and drop the checkpoints.

        Raises UserError as `check`, or if the record can't be written.
        """
        self.check()
        digest = artifact.write_arrays(self.arrays_path, record.arrays)
        artifact.write_json(
            self.folder / "run.json",
            {"failure": record.failure, "sha256": digest, "measurements": record.measurements},
        )
        for path in (self._checkpoint_path, self._previous_path):
            path.unlink(missing_ok=True)

    def save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Replace the checkpoint and keep the one before it.

        Raises UserError as `check`, or if it can't be written; the old ones stay.
        """
        self.check()
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        artifact.write_sealed(self._checkpoint_path, buffer.getvalue(), self._previous_path)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Return the checkpoint, or else the one before it, on the CPU; None if there is neither.

        Prints a line for each that is damaged or should be there. Raises OSError if the one before
        can't take its place.
        """
        if not self._checkpoint_path.exists() and not self._previous_path.exists():
            return None
        for path, otherwise in (
            (self._checkpoint_path, "this run goes on from the one before it"),
            (self._previous_path, "this run starts over"),
        ):
            try:
                payload = artifact.read_sealed(path)
            except UserError:
                fault = "damaged" if path.exists() else "missing"
                print(f"{path}: {fault}; {otherwise}", flush=True)
            else:
                if path == self._previous_path:
                    # Else the next save would keep the damaged one in its place.
                    path.replace(self._checkpoint_path)
                return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        return None

    @property
    def _checkpoint_path(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def _previous_path(self) -> Path:
        return self.folder / "previous-checkpoint.pt"
