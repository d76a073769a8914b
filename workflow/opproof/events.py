"""TensorBoard event files of trained runs: Loss/Train per step, Accuracy/Test per epoch."""

import shutil
from pathlib import Path

import numpy as np

from opproof import artifact
from opproof.settings import Settings

# Training jobs write the files of this many runs; more curves at once tell a reader nothing.
_ALWAYS_WRITTEN = 30

# Beside the event file: which run it is of.
_DIGEST_FILE = "run.sha256"


def folder(settings: Settings, backend: str, seed: int) -> Path:
    """Return the folder of a run's event file; TensorBoard shows it as BACKEND/seed-SEED."""
    return Path(settings.output) / "tensorboard" / backend / f"seed-{seed}"


def always_written(settings: Settings, seed: int) -> bool:
    """Say whether training writes this seed's files: the first seeds, as many for each backend."""
    seeds = max(1, _ALWAYS_WRITTEN // len(settings.backends))
    return seed in settings.seeds[:seeds]


def are_of(folder: Path, digest: str) -> bool:
    """Say whether `folder` holds the event file of the run whose arrays have this SHA-256."""
    mark = folder / _DIGEST_FILE
    return mark.exists() and mark.read_text() == digest


def write(folder: Path, digest: str, loss: np.ndarray, accuracy: np.ndarray) -> None:
    """Replace the event file in `folder` by one of loss [steps] and accuracy, % [epochs].

    `digest` is the SHA-256 of the run's arrays.
    """
    from torch.utils.tensorboard import SummaryWriter  # takes seconds to import

    # Written aside and renamed: a server that watches never sees half a run, nor one run twice.
    aside = artifact.temporary(folder)
    try:
        with SummaryWriter(str(aside)) as writer:
            for step, value in enumerate(loss, start=1):
                writer.add_scalar("Loss/Train", value, step)
            for epoch, value in enumerate(accuracy, start=1):
                writer.add_scalar("Accuracy/Test", value, epoch)
        (aside / _DIGEST_FILE).write_text(digest)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
