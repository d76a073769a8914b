"""The training loss by step."""

import altair as alt
import pandas as pd

from opproof.summary.figures import bands, theme
from opproof.summary.figures.figure import Figure, draw

# A loss of 0, which there is where float32 can't tell a probability from 1, is drawn there.
_LEAST = 1e-9


def loss(curves: pd.DataFrame, baseline: str) -> Figure | None:
    """Return the figure of the losses as of summary/curves.py, None where nothing was trained."""
    if curves.empty:
        return None
    data = bands.with_baseline(curves, "loss", "step", baseline)
    losses = ["loss", "low", "high", bands.MEAN_OF_BASELINE]
    positive = data.assign(**data[losses].clip(lower=_LEAST))
    chart = bands.chart(
        positive,
        "training loss, log scale, by step",
        alt.X(
            "step:Q",
            title=None,
            axis=alt.Axis(tickCount=4, format="~s"),
            scale=alt.Scale(nice=False),
        ),
        "loss",
        alt.Y(
            scale=alt.Scale(type="log", nice=False),
            axis=alt.Axis(values=theme.log_ticks(positive.loss)),
        ),
        baseline,
    )
    return draw(
        "loss",
        "Training loss by step",
        bands.described(curves, "loss", "step", baseline),
        chart,
        data,
    )
