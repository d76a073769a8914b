"""The test accuracy by epoch."""

import altair as alt
import pandas as pd

from opproof.summary.figures import bands
from opproof.summary.figures.figure import Figure, draw


def accuracy(curves: pd.DataFrame, baseline: str) -> Figure | None:
    """Return the figure of the accuracies as of summary/curves.py, None of nothing trained."""
    if curves.empty:
        return None
    data = bands.with_baseline(curves, "accuracy", "epoch", baseline)
    chart = bands.chart(
        data,
        "test accuracy, per cent, by epoch",
        alt.X("epoch:Q", title=None, axis=alt.Axis(values=_ticks(data.epoch.max()), format="d")),
        "accuracy",
        alt.Y(scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4)),
        baseline,
    )
    return draw(
        "accuracy",
        "Test accuracy by epoch",
        bands.described(curves, "accuracy", "epoch", baseline),
        chart,
        data,
    )


def _ticks(epochs: int) -> list[int]:
    """Return five epochs, or those that there are."""
    step = -(-epochs // 5)
    return [*range(step, epochs + 1, step)]
