"""The figures of the report, a module each."""

from typing import Any

import pandas as pd

from opproof.summary.figures.accuracy import accuracy
from opproof.summary.figures.differences import differences
from opproof.summary.figures.figure import Figure
from opproof.summary.figures.loss import loss

__all__ = ["Figure", "figures"]


def figures(summary: dict[str, Any], curves: dict[str, pd.DataFrame]) -> list[Figure]:
    """Return those of which there is something to draw; `curves` as of summary/curves.py."""
    results = summary["results"]
    drawn = (
        loss(curves["loss"], results["baseline"]),
        accuracy(curves["accuracy"], results["baseline"]),
        differences(results["backends"]),
    )
    return [figure for figure in drawn if figure]
