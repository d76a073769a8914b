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

from opproof import artifact
from opproof.errors import UserError


@dataclass(frozen=True)
class RunRecord:
    """How a run ended.

    failure: None, or why it stopped before its end.
    arrays: loss (float32, [steps]), accuracy (float64, per cent, [epochs]) and predictions (uint8,
    [10000], after the last epoch), of the steps and epochs that were done.
    measurements: what depends on clock and hardware; times in seconds, memory in bytes.
    final: whether training again would end alike; not where the operator raised.
    """

    failure: str | None
    arrays: dict[str, np.ndarray]
    measurements: dict[str, Any]
    final: bool = True


class RunState:
    """The folder of one run."""

    def __init__(self, output: Path, digest: str, seed: int) -> None:
        self.folder = output / "state" / digest / str(seed)

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

    def save_record(self, record: RunRecord) -> None:
        """Keep the record and drop the checkpoint. Raises UserError if it can't be written."""
        digest = artifact.write_arrays(self.arrays_path, record.arrays)
        artifact.write_json(
            self.folder / "run.json",
            {"failure": record.failure, "sha256": digest, "measurements": record.measurements},
        )
        self._checkpoint_path.unlink(missing_ok=True)

    def save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Replace the checkpoint. Raises UserError if it can't be written; the old one stays."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        artifact.write_sealed(self._checkpoint_path, buffer.getvalue())

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Return the checkpoint, on the CPU; None if there is none or it is damaged (printed)."""
        if not self._checkpoint_path.exists():
            return None
        try:
            payload = artifact.read_sealed(self._checkpoint_path)
        except UserError:
            print(f"{self._checkpoint_path}: damaged; this run starts over", flush=True)
            return None
        return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)

    @property
    def _checkpoint_path(self) -> Path:
        return self.folder / "checkpoint.pt"
