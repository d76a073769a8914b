"""What is timed against what in training: engines at work, each on runs of its own."""

import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from opproof import engines, mnist
from opproof.backends import BACKENDS, BASELINE
from opproof.lenet import initial_parameters, sample_orders
from opproof.settings import Backend, Settings

REFERENCE, KERNEL = "reference", "kernel"
ENGINES = (REFERENCE, "graph", KERNEL)

# How many seeds the engine that can trains together; the others train one.
SEEDS = {"cpu": (1, 4, 16), "cuda": (1, 4, 16, 132, 264)}

# What may be TF32: matrix products, convolutions. The last one is torch's default.
TORCHS_DEFAULT = "tf32 convolutions"
_TF32 = {"fp32": (False, False), "tf32": (True, True), TORCHS_DEFAULT: (False, True)}

# Seconds. A call of an engine costs more than its steps, as beginning a DataLoader: less than a
# hundredth of this.
STRETCH = 0.05

# Steps that the schedule of learning rates is made for at least: more than a timing takes.
_SCHEDULED = 100_000


@dataclass(frozen=True)
class Kind:
    """What a trainee is: an engine, a backend, how many seeds at once, and the arithmetic."""

    engine: str
    backend: str
    seeds: int
    arithmetic: str  # "fp32", "tf32", or TORCHS_DEFAULT


def plan(
    settings: Settings, names: Sequence[str], where: torch.device
) -> tuple[list[Kind], list[dict[str, str]]]:
    """Return what is timed of these backends and torch's, the yardstick first, and what is not.

    The latter are the engine, the backend and the reason. A backend that has no training step for
    the engine kernel is among neither there.
    """
    names = list(dict.fromkeys([BASELINE, *names]))
    kinds = [Kind(REFERENCE, name, 1, settings.precision) for name in names]
    if where.type == "cuda":
        others = [word for word in ("fp32", TORCHS_DEFAULT) if word != settings.precision]
        kinds += [Kind(REFERENCE, BASELINE, 1, word) for word in others]
    kinds += [Kind("graph", name, 1, settings.precision) for name in names]
    skipped = []
    built = {library.name for library in settings.libraries}
    for name in names:
        step = find(settings, name).step
        if step in built:
            kinds += [Kind(KERNEL, name, seeds, settings.precision) for seeds in SEEDS[where.type]]
        elif step:
            reason = f"its library {step} is not among the settings' libraries"
            skipped.append({"engine": KERNEL, "backend": name, "reason": reason})
    return kinds, skipped


def find(settings: Settings, name: str) -> Backend:
    """Return the backend of that name; torch's also where the settings have none.

    Raises UserError for a name that is not in the settings.
    """
    names = {backend.name for backend in settings.backends}
    if name == BASELINE and name not in names:
        return BACKENDS[BASELINE]
    return settings.backend(name)


class Trainee:
    """An engine that trains the seeds 0, 1, ... on and on, a stretch of steps at a time.

    A stretch takes about STRETCH seconds: `steps` steps, `at_once` in a call of the engine. On a
    GPU it is whole epochs but for the reference, since an engine captures them. `peak_memory` are
    bytes of a GPU, None on a CPU.
    """

    def __init__(self, kind: Kind, settings: Settings, where: torch.device) -> None:
        """Create the engine and warm it up. Raises what it does, and as engines.create."""
        self.kind = kind
        before = _memory_to_watch(where)
        batch_size = settings.train.batch_size
        self._of_epoch = mnist.steps_per_epoch(batch_size)
        epochs = max(settings.train.epochs, math.ceil(_SCHEDULED / self._of_epoch))
        longer = dataclasses.replace(settings.train, epochs=epochs)
        orders = (next(sample_orders(s, mnist.TRAIN_LABELS.shape[0])) for s in range(kind.seeds))
        self._orders = torch.stack([*orders])
        self._batch_size = batch_size
        self._next_step = 0
        self._scheduled = epochs * self._of_epoch
        with self._arithmetic():
            self._engine = engines.create(
                kind.engine,
                dataclasses.replace(settings, train=longer),
                find(settings, kind.backend),
                where,
            )
        self._begin()
        whole = where.type == "cuda" and kind.engine != REFERENCE
        self.at_once = self._engine.batches_at_once if whole else min(2, self._of_epoch)
        self._calls = 1
        self.stretch()  # what happens once: capturing, first calls of libraries
        start = time.perf_counter()
        self.stretch()
        wanted = STRETCH / (time.perf_counter() - start)
        if whole:
            self._calls = math.ceil(wanted)
        else:
            self.at_once = min(math.ceil(wanted * self.at_once), self._of_epoch)
        self.steps = self._calls * self.at_once
        self.peak_memory: int | None = None
        if before is not None:
            self.predict()
            self.peak_memory = torch.cuda.max_memory_allocated(where) - before

    def stretch(self) -> None:
        """Take `steps` steps; they are done when it returns."""
        for _ in range(self._calls):
            self.train(self.at_once)

    def train(self, steps: int) -> None:
        """Take so many steps, an epoch of them at most; they are done when it returns."""
        if self._taken + steps > self._scheduled:
            self._begin()
        if self._next_step + steps > self._of_epoch:
            self._next_step = 0
        first, self._next_step = self._next_step, self._next_step + steps
        self._taken += steps
        samples = slice(first * self._batch_size, self._next_step * self._batch_size)
        with self._arithmetic():
            self._engine.train(self._orders[:, samples]).cpu()

    def predict(self) -> Tensor:
        """Return the class predicted for each test image, int64 [seeds, 10000], on the CPU."""
        with self._arithmetic():
            return self._engine.predict()

    def _begin(self) -> None:
        self._taken = 0
        self._engine.begin(initial_parameters(range(self.kind.seeds)))

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        """Compute as the kind says: the trainees of a process differ in it."""
        before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        products, convolutions = _TF32[self.kind.arithmetic]
        torch.backends.cuda.matmul.allow_tf32 = products
        torch.backends.cudnn.allow_tf32 = convolutions
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def described(kind: Kind | None) -> dict[str, Any]:
    """Return the kind as a row of the record has it; None, of nobody, is None throughout."""
    keys = [field.name for field in dataclasses.fields(Kind)]
    return dataclasses.asdict(kind) if kind else dict.fromkeys(keys)


def _memory_to_watch(where: torch.device) -> int | None:
    """Have torch watch the GPU's memory from here on; return the bytes in use, None on a CPU."""
    if where.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(where)
    return torch.cuda.memory_allocated(where)
