"""The training loss by step."""

import altair as alt
import pandas as pd

from opproof.summary.figures import bands
from opproof.summary.figures.figure import Figure, draw

_TICKS = [digit * 10.0**power for power in range(-12, 3) for digit in (1, 3)]


def loss(curves: pd.DataFrame, baseline: str) -> Figure | None:
    """Return the figure of the losses as of summary/curves.py, None where nothing was trained."""
    if curves.empty:
        return None
    data = bands.with_baseline(curves, "loss", "step", baseline)
    chart = bands.chart(
        data,
        "training loss, log scale, by step",
        alt.X("step:Q", title=None, axis=alt.Axis(tickCount=4), scale=alt.Scale(nice=False)),
        "loss",
        alt.Y(scale=alt.Scale(type="log", nice=False), axis=alt.Axis(values=_TICKS)),
        baseline,
    )
    return draw(
        "loss",
        "Training loss by step",
        bands.described(curves, "loss", "step", baseline),
        chart,
        data,
    )
