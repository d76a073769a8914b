"""The test accuracy by epoch."""

import altair as alt
import pandas as pd

from opproof.summary.figures import bands
from opproof.summary.figures.figure import Figure


def accuracy(curves: pd.DataFrame, baselines: dict[str, str]) -> Figure | None:
    """Return the figure of the accuracies as of summary/curves.py, None of nothing trained."""
    if curves.empty:
        return None
    return bands.figure(
        curves,
        "accuracy",
        "epoch",
        baselines,
        title="Test accuracy by epoch",
        axes="test accuracy, per cent, by epoch",
        x=alt.X(
            "epoch:Q", title=None, axis=alt.Axis(values=_ticks(curves.epoch.max()), format="d")
        ),
        y=alt.Y(scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4)),
    )


def _ticks(epochs: int) -> list[int]:
    """Return five epochs, or those that there are."""
    step = -(-epochs // 5)
    return [*range(step, epochs + 1, step)]
