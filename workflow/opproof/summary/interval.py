"""Statistics over seeds, by scipy."""

import statistics
from collections.abc import Sequence
from typing import Any

from scipy import stats

CONFIDENCE = 0.95


def mean_with_interval(values: Sequence[float]) -> dict[str, Any] | None:
    """Return the mean and its 95 % interval by Student's t, None of one value; None of none."""
    if not values:
        return None
    mean = statistics.fmean(values)
    low = high = None
    if len(values) > 1 and len(set(values)) == 1:
        low = high = mean  # no spread: scipy would divide by it
    elif len(values) > 1:
        low, high = map(float, stats.ttest_1samp(values, 0.0).confidence_interval(CONFIDENCE))
    return {"mean": mean, "low": low, "high": high, "confidence": CONFIDENCE}
