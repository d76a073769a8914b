"""What training leaves of a block: its record and the arrays of its runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from opproof import artifact
from opproof.settings import Settings

STARTED = "2026-01-02T03:04:05+00:00"
MIB = 2**20


def run(
    seed: int,
    loss: np.ndarray,
    accuracy: Sequence[float] = (97.5, 98.25),
    failure: str | None = None,
) -> tuple[dict[str, Any], np.ndarray]:
    """Return the entry of a run in its block's record, and its losses [steps]."""
    epochs = len(accuracy)
    entry = {
        "seed": seed,
        "failure": failure,
        "average_loss": [0.5 / (number + 1) for number in range(epochs)],
        "accuracy": [*accuracy],
        "file": f"seed-{seed}.npz",
        "sha256": "0" * 64,
        "measurements": {
            "epoch_peak_memory_bytes": [(500 + number) * MIB for number in range(epochs)]
        },
    }
    return entry, loss


def leave(
    settings: Settings,
    backend: str,
    number: int,
    *runs: tuple[dict[str, Any], np.ndarray],
    gpu_samples: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Write a block's record, and the arrays of its runs; return the record."""
    folder = Path(settings.output, "train", backend, str(number))
    for entry, loss in runs:
        accuracy = np.array(entry["accuracy"])
        arrays = {"loss": loss, "accuracy": accuracy}
        entry["sha256"] = artifact.write_arrays(folder / entry["file"], arrays)
    block = {
        "backend": backend,
        **settings.plan(),
        "runs": [entry for entry, _ in runs],
        "measurements": {"gpu_samples": [*gpu_samples]},
        "provenance": {"started": STARTED},
    }
    artifact.write_json(folder / "block.json", block)
    return block
