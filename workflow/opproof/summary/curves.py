"""The curves of training, thinned to be drawn: loss by step, accuracy by epoch."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from opproof import events, mnist
from opproof.settings import Settings
from opproof.summary import points

# The band holds the middle 90 % of the seeds: it shows how far runs spread, however many there are,
# and one that went astray does not widen it, as it would a standard deviation.
_BAND = (0.05, 0.95)

# What a run's arrays are plotted against.
_AGAINST = {"loss": "step", "accuracy": "epoch"}


@dataclass
class _Runs:
    """Of one backend: every run's thinned curves by quantity, and the seeds that are drawn."""

    seeds: list[int] = field(default_factory=list)
    curves: dict[str, list[np.ndarray]] = field(default_factory=lambda: {q: [] for q in _AGAINST})


class Curves:
    """Takes in runs one after another; keeps at most 200 points of each, whatever its length."""

    def __init__(self, settings: Settings) -> None:
        epochs = settings.train.epochs
        most = _points_of_a_curve(settings)
        self._settings = settings
        self._ends = {
            "loss": _ends(epochs * mnist.steps_per_epoch(settings.train.batch_size), most),
            "accuracy": _ends(epochs, most),
        }
        self._runs = {backend.name: _Runs() for backend in settings.backends}

    def add(self, backend: str, seed: int, arrays: dict[str, np.ndarray]) -> None:
        """Take in a run that ended well: "loss" [steps] and "accuracy" [epochs], in per cent."""
        runs = self._runs[backend]
        runs.seeds.append(seed)
        for quantity, ends in self._ends.items():
            runs.curves[quantity].append(_means(arrays[quantity], ends).astype(np.float32))

    def frames(self) -> dict[str, pd.DataFrame]:
        """Return by "loss" and "accuracy" what is drawn of it, without rows if there are no runs.

        A row a point: `backend`; `seed`, missing in the mean over all seeds; `step` or `epoch`, at
        the end of the span that the point is the mean of; the quantity, and in the mean's rows,
        from two seeds on, `low` and `high`, the quantiles of 5 % and 95 % over all seeds. Single
        seeds are those that TensorBoard shows without being asked, of those that ended well.
        """
        return {quantity: self._frame(quantity) for quantity in _AGAINST}

    def _frame(self, quantity: str) -> pd.DataFrame:
        against, ends = _AGAINST[quantity], self._ends[quantity]
        parts = []
        for backend, runs in self._runs.items():
            if not runs.seeds:
                continue
            curves = np.stack(runs.curves[quantity]).astype(np.float64)
            low, high = np.quantile(curves, _BAND, axis=0) if len(curves) > 1 else (None, None)
            of = {"backend": backend, against: ends}
            mean = {quantity: curves.mean(axis=0), "low": low, "high": high}
            parts.append(pd.DataFrame({**of, "seed": None, **mean}))
            for seed, curve in zip(runs.seeds, curves, strict=True):
                if events.always_written(self._settings, seed):
                    parts.append(pd.DataFrame({**of, "seed": seed, quantity: curve}))
        columns = ["backend", "seed", against, quantity, "low", "high"]
        frame = pd.concat(parts) if parts else pd.DataFrame(columns=columns)
        kinds = {"seed": "Int64", quantity: float, "low": float, "high": float}
        return frame[columns].astype(kinds).reset_index(drop=True)


def _points_of_a_curve(settings: Settings) -> int:
    """Return the most points of a curve; each backend has a panel."""
    drawn = sum(events.always_written(settings, seed) for seed in settings.seeds)
    curves = len(settings.backends) * (drawn + len(("mean", "low", "high", "the baseline's mean")))
    return points.of_a_curve(curves)


def _ends(length: int, most: int) -> np.ndarray:
    """Return where the spans end, of `length` values, that are as equal as can be; ascending."""
    count = min(most, length)
    return np.arange(1, count + 1) * length // count


def _means(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the mean of each span of values."""
    starts = np.concatenate([[0], ends[:-1]])
    return np.add.reduceat(values.astype(np.float64), starts) / (ends - starts)
