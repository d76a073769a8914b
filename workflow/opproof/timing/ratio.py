"""How much faster: the geometric mean of paired ratios, its interval, and the verdict in a word."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95

# A ratio within 3 % of 1 counts as no difference: less than a user notices, and more than the
# place of buffers and code does.
MARGIN = 0.03

# Tukey's fences, in interquartile ranges beyond the quartiles (Exploratory Data Analysis, 2C).
_MILD, _SEVERE = 1.5, 3.0


def interval(ratios: Sequence[float]) -> dict[str, float]:
    """Return the geometric mean, `low` and `high` of its 95 % interval by Student's t of the logs.

    Ratios have no other mean: that of a/b is one over that of b/a. All of them count, outliers too.
    Raises ValueError for fewer than 2.
    """
    if len(ratios) < 2:
        raise ValueError(f"{len(ratios)} ratios: an interval needs 2 or more")
    mean, error = float(stats.gmean(ratios)), stats.sem(np.log(ratios))
    # An error of nothing, which scipy would divide by, is that of one value over and over.
    half = float(stats.t(len(ratios) - 1).ppf((1 + CONFIDENCE) / 2) * error)
    return {"low": mean * math.exp(-half), "mean": mean, "high": mean * math.exp(half)}


def outliers(ratios: Sequence[float]) -> dict[str, int]:
    """Count what lies far off the others, "mild" and "severe": a hint at a disturbed machine."""
    logs = np.log(ratios)
    first, third = np.quantile(logs, (0.25, 0.75))
    beyond = np.maximum(first - logs, logs - third) / max(third - first, np.finfo(float).eps)
    severe = int((beyond > _SEVERE).sum())
    return {"mild": int((beyond > _MILD).sum()) - severe, "severe": severe}


def verdict(low: float, high: float) -> str:
    """Word an interval of the ratio torch/backend: FASTER, SAME, SLOWER, or UNCLEAR.

    FASTER and SLOWER where all of it lies beyond the margin, SAME where all of it lies within.
    """
    if low > 1 + MARGIN:
        return "FASTER"
    if high < 1 / (1 + MARGIN):
        return "SLOWER"
    if low >= 1 / (1 + MARGIN) and high <= 1 + MARGIN:
        return "SAME"
    return "UNCLEAR"
