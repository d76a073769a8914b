"""Runs: each a function of backend, seed and settings, that survives being killed."""

import resource
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from opproof.engines.engine import Engine
from opproof.lenet import initial_parameters, nudged, sample_orders
from opproof.mnist import TRAIN_LABELS, steps_per_epoch
from opproof.operators import MACHINE_FAULTS
from opproof.settings import Training
from opproof.train.progress import Progress
from opproof.train.state import RunRecord, RunState
from opproof.train.writer import Writer

# Seconds. With the second that an engine trains at a stretch, a kill costs ten at most.
_CHECKPOINT_INTERVAL = 8.0

# Seconds between two looks at whether another attempt has taken over.
_CHECK_INTERVAL = 1.0


@dataclass
class History:
    """What a run has to show so far; see RunRecord."""

    losses: list[Tensor] = field(default_factory=list)  # [steps] of each stretch
    accuracy: list[float] = field(default_factory=list)
    first_predictions: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))
    predictions: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))
    epoch_seconds: list[float] = field(default_factory=list)
    epoch_peak_memory_bytes: list[int] = field(default_factory=list)  # of the process, by then
    seconds: float = 0.0  # of the epoch that is not over

    @property
    def steps(self) -> int:
        """How many steps were done."""
        return sum(map(len, self.losses))

    def add_losses(self, losses: Tensor) -> str | None:
        """Take the next steps' losses [steps]; up to the first that is not finite, and say so."""
        bad = (~losses.isfinite()).nonzero()
        if not len(bad):
            self.losses.append(losses.clone())
            return None
        self.losses.append(losses[: int(bad[0]) + 1].clone())
        return f"the loss became {losses[int(bad[0])].item()} at step {self.steps}"

    def end_epoch(self, predictions: Tensor, labels: Tensor) -> None:
        """Take the classes predicted after an epoch."""
        self.accuracy.append(100.0 * (predictions == labels).sum().item() / len(labels))
        self.predictions = predictions.to(torch.uint8)
        if len(self.accuracy) == 1:
            self.first_predictions = self.predictions
        self.epoch_seconds.append(self.seconds)
        self.seconds = 0.0
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
        self.epoch_peak_memory_bytes.append(1024 * peak)

    def mean_loss(self, steps: int) -> float:
        """Return the mean loss of the last steps."""
        return torch.cat(self.losses)[-steps:].mean().item()

    def copy(self) -> dict[str, Any]:
        """Return the content, which stays as it is when the run goes on."""
        return {
            name: [*value] if isinstance(value, list) else value
            for name, value in vars(self).items()
        }

    def record(self, failure: str | None, final: bool = True) -> RunRecord:
        """Return it as the record of a run that has ended; see RunRecord for `final`."""
        arrays = {
            "loss": torch.cat([torch.empty(0), *self.losses]).numpy(),
            "accuracy": np.array(self.accuracy, dtype=np.float64),
            "first_predictions": self.first_predictions.numpy(),
            "predictions": self.predictions.numpy(),
        }
        measurements = {
            "epoch_seconds": self.epoch_seconds,
            "epoch_peak_memory_bytes": self.epoch_peak_memory_bytes,
        }
        return RunRecord(failure, arrays, measurements, final)


@dataclass
class Run:
    """A run under way."""

    seed: int
    state: RunState
    history: History = field(default_factory=History)
    checkpoint: dict[str, Any] | None = None  # the engine's state, until it has taken it

    def load(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        checkpoint = self.state.load_checkpoint()
        if checkpoint:
            vars(self.history).update(checkpoint["history"])
            self.checkpoint = checkpoint["engine"]


@dataclass(frozen=True)
class Trainer:
    """Trains runs of one backend by an engine, as many at once as that can.

    Controls begin with their weights moved by an ULP: how far rounding alone carries a run away.
    """

    engine: Engine
    training: Training
    test_labels: Tensor  # int64 [10000], on the CPU
    writer: Writer
    are_controls: bool = False

    def train(self, runs: Sequence[Run], progress: Progress) -> Iterator[tuple[Run, RunRecord]]:
        """Train the runs from their checkpoints, or from the start; yield each as it ends.

        A loss that is not finite ends a run and is recorded; so does an operator that raises, for
        the runs that it was trained with. Raises UserError if a checkpoint can't be written, or
        another attempt has taken over.
        """
        for run in runs:
            run.load()
        for together in self._cohorts(runs):
            going = dict(enumerate(together))
            try:
                yield from self._train(together, going, progress)
            except MACHINE_FAULTS:
                raise
            except Exception as error:
                traceback.print_exc()
                failure = f"{type(error).__name__}: {error}".splitlines()[0]
                for run in going.values():
                    yield run, run.history.record(failure, final=False)

    def _cohorts(self, runs: Sequence[Run]) -> Iterator[list[Run]]:
        """Yield runs that have got equally far, as many as the engine trains at once."""

        def steps(run: Run) -> int:
            return run.history.steps

        for _, alike in groupby(sorted(runs, key=steps), key=steps):
            left = iter(alike)
            while together := [*islice(left, self.engine.seeds_at_once)]:
                yield together

    def _train(
        self, runs: list[Run], going: dict[int, Run], progress: Progress
    ) -> Iterator[tuple[Run, RunRecord]]:
        """Train runs together; `going` are those that have not ended, by their place in it."""
        of_epoch = steps_per_epoch(self.training.batch_size)
        epoch, step = divmod(runs[0].history.steps, of_epoch)
        self._start(runs)
        following = _orders(runs, epoch)
        orders = next(following)
        clock = _Clock()
        for number in range(epoch, self.training.epochs):
            while step < of_epoch:
                start = time.perf_counter()
                end = min(step + self.engine.batches_at_once, of_epoch)
                losses = self.engine.train(orders[:, self._samples(step, end)])
                if end == of_epoch and number + 1 < self.training.epochs:
                    orders = next(following)  # while a GPU is at work
                losses = losses.cpu()
                seconds = (time.perf_counter() - start) / len(runs)
                for place, run in [*going.items()]:
                    run.history.seconds += seconds
                    if failure := run.history.add_losses(losses[place]):
                        yield going.pop(place), run.history.record(failure)
                if not going:
                    return
                step = end
                if step < of_epoch:
                    self._keep(going, clock)
            step = 0
            yield from self._end_epoch(going, number + 1, progress)
            if not going:
                return
            self._keep(going, clock)
        for place, run in [*going.items()]:
            yield going.pop(place), run.history.record(None)

    def _samples(self, step: int, end: int) -> slice:
        return slice(step * self.training.batch_size, end * self.training.batch_size)

    def _start(self, runs: list[Run]) -> None:
        checkpoints = [run.checkpoint for run in runs if run.checkpoint]
        if checkpoints:
            self.engine.resume(checkpoints)
        else:
            seeds = [run.seed for run in runs]
            parameters = initial_parameters(seeds)
            self.engine.begin(nudged(parameters, seeds) if self.are_controls else parameters)
        for run in runs:
            run.checkpoint = None

    def _end_epoch(
        self, going: dict[int, Run], epoch: int, progress: Progress
    ) -> Iterator[tuple[Run, RunRecord]]:
        """Evaluate; yield the runs whose weights are not finite."""
        finite, predictions = self.engine.are_finite(), self.engine.predict()
        for place, run in [*going.items()]:
            if not finite[place]:
                failure = f"the weights are not finite after epoch {epoch}"
                yield going.pop(place), run.history.record(failure)
            else:
                run.history.end_epoch(predictions[place], self.test_labels)
        if going:
            steps = steps_per_epoch(self.training.batch_size)
            progress.epoch_done(
                epoch,
                {run.seed: run.history.mean_loss(steps) for run in going.values()},
                [run.history.accuracy[-1] for run in going.values()],
            )

    def _keep(self, going: dict[int, Run], clock: "_Clock") -> None:
        """Have checkpoints written, or the right to write checked, where it is time."""
        if clock.is_time_to_save():
            copies = [
                (run.state, {"engine": self.engine.state(place), "history": run.history.copy()})
                for place, run in going.items()
            ]
            self.writer.submit(_save, copies)
        elif clock.is_time_to_check():
            self.writer.submit(_check, [run.state for run in going.values()])


class _Clock:
    """Tells when it is time again."""

    def __init__(self) -> None:
        self._saved_at = self._checked_at = time.monotonic()

    def is_time_to_save(self) -> bool:
        now = time.monotonic()
        if now - self._saved_at < _CHECKPOINT_INTERVAL:
            return False
        self._saved_at = self._checked_at = now
        return True

    def is_time_to_check(self) -> bool:
        now = time.monotonic()
        if now - self._checked_at < _CHECK_INTERVAL:
            return False
        self._checked_at = now
        return True


def _orders(runs: Sequence[Run], done: int) -> Iterator[Tensor]:
    """Yield the orders of each epoch but the first that are `done`, int64 [runs, samples]."""
    of_runs = zip(*(sample_orders(run.seed, TRAIN_LABELS.shape[0]) for run in runs), strict=True)
    return map(torch.stack, islice(of_runs, done, None))


def _save(checkpoints: Sequence[tuple[RunState, dict[str, Any]]]) -> None:
    for state, checkpoint in checkpoints:
        state.save_checkpoint(checkpoint)


def _check(states: Sequence[RunState]) -> None:
    for state in states:
        state.check()
