"""How much faster: the median of paired ratios, its interval, and the verdict in a word."""

import math
from collections.abc import Sequence

CONFIDENCE = 0.95

# A ratio within 3 % of 1 counts as no difference: less than a user notices, and more than the
# place of buffers and code does.
MARGIN = 0.03


def median_interval(values: Sequence[float]) -> dict[str, float]:
    """Return the median, `low` and `high` of an interval that has it with 95 % confidence or more.

    Order statistics: as many values lie below the true median as heads among so many coins,
    whatever their distribution (Conover, Practical Nonparametric Statistics, 3.2). Raises
    ValueError for fewer than 6 values, whose whole range has less confidence.
    """
    ordered = sorted(values)
    count = len(ordered)
    rank = _rank(count)
    middle = ordered[(count - 1) // 2], ordered[count // 2]
    return {"low": ordered[rank], "median": sum(middle) / 2, "high": ordered[-1 - rank]}


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


def _rank(count: int) -> int:
    """Return how many values may be left out on either side of the interval."""
    outside, rank = 0.0, -1
    while rank < count:
        outside += math.comb(count, rank + 1) / 2**count
        if outside > (1 - CONFIDENCE) / 2:
            break
        rank += 1
    if rank < 0:
        raise ValueError(f"{count} values: an interval of the median needs 6 or more")
    return rank
