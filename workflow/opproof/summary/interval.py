"""Statistics over seeds, by scipy."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from scipy import stats

CONFIDENCE = 0.95


def mean_with_interval(values: Sequence[float]) -> dict[str, Any] | None:
    """Return the mean and its 95 % interval by Student's t, None of one value; None of none."""
    if not values:
        return None
    low, high = interval(values, CONFIDENCE)
    mean = statistics.fmean(values)
    return {"mean": mean, "low": low, "high": high, "confidence": CONFIDENCE}


def interval(
    values: Sequence[float], confidence: float, least_deviation: float = 0.0
) -> tuple[float, float] | tuple[None, None]:
    """Return Student's t interval of the mean; None, None of fewer than two values.

    Values that are all alike are taken to deviate by `least_deviation`.
    """
    if len(values) < 2:
        return None, None
    mean, deviation = statistics.fmean(values), statistics.stdev(values) or least_deviation
    if not deviation:
        return mean, mean  # scipy would divide by it
    error = deviation / math.sqrt(len(values))
    low, high = stats.t.interval(confidence, len(values) - 1, mean, error)
    return float(low), float(high)
