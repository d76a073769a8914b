"""The figures of the report, each with its data."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from opproof.summary.figures.accuracy import accuracy
from opproof.summary.figures.bandwidth import bandwidth
from opproof.summary.figures.blocks import blocks
from opproof.summary.figures.differences import differences
from opproof.summary.figures.figure import Figure
from opproof.summary.figures.ladder import ladder
from opproof.summary.figures.loss import loss
from opproof.summary.figures.ulp import ulp

__all__ = ["Figure", "figures"]


def figures(summary: dict[str, Any], curves: Mapping[str, pd.DataFrame]) -> list[Figure]:
    """Return those for which there is data; `curves` as of Curves.frames()."""
    results, measurements = summary["results"], summary["measurements"]
    baselines = {backend["name"]: backend["baseline"] for backend in results["backends"]}
    every = (
        differences(results["backends"]),
        accuracy(curves["accuracy"], baselines),
        loss(curves["loss"], baselines),
        ulp(summary),
        blocks(summary),
        bandwidth(measurements["operators"]),
        ladder(measurements["training_time"]),
    )
    return [figure for figure in every if figure]
