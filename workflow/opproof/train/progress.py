"""Shows how far a training job is: a bar on a terminal, a line per epoch in a log."""

import sys
from collections import Counter
from collections.abc import Mapping
from statistics import fmean
from types import TracebackType
from typing import Any


class Progress:
    """Counts the epochs of a job's runs."""

    def __init__(self, backend: str, seeds: int, epochs: int) -> None:
        self.backend = backend
        self.epochs = epochs
        self._epochs_of_run: Counter[int] = Counter()
        self._bar = _bar() if sys.stderr.isatty() else None
        if self._bar:
            self._task = self._bar.add_task(backend, total=seeds * epochs, state="")

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def epoch_done(self, epoch: int, losses: Mapping[int, float], accuracies: list[float]) -> None:
        """Show the end of an epoch (from 1) of runs that are trained together.

        `losses` are the means of the epoch, by seed; `accuracies`, per cent, those after it.
        """
        for seed in losses:
            self._epochs_of_run[seed] += 1
        which = f"seed {next(iter(losses))}" if len(losses) == 1 else f"{len(losses)} seeds"
        state = f"loss {fmean(losses.values()):.6f} accuracy {fmean(accuracies):.2f} %"
        if self._bar:
            self._bar.update(self._task, advance=len(losses), state=f"{which} {state}")
        else:
            print(f"{self.backend} {which} epoch {epoch}/{self.epochs} {state}", flush=True)

    def run_done(self, seed: int, how: str) -> None:
        """Show the end of a run, and count those of its epochs that were not trained just now."""
        if self._bar:
            self._bar.console.print(f"{self.backend} seed {seed}: {how}")
            self._bar.update(self._task, advance=self.epochs - self._epochs_of_run[seed])
        else:
            print(f"{self.backend} seed {seed}: {how}", flush=True)


def _bar() -> Any:
    # Only a person at a terminal needs rich; a job on a node may lack it.
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("epochs,"),
        progress.TimeRemainingColumn(),
        progress.TextColumn("to go  {task.fields[state]}"),
        console=Console(stderr=True),
    )
