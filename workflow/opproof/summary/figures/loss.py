"""The training loss by step."""

import altair as alt
import pandas as pd

from opproof.summary.figures import bands, theme
from opproof.summary.figures.figure import Figure

# A loss of 0, which there is where float32 can't tell a probability from 1, is drawn there.
_LEAST = 1e-9


def loss(curves: pd.DataFrame, baselines: dict[str, str]) -> Figure | None:
    """Return the figure of the losses as of summary/curves.py, None where nothing was trained."""
    if curves.empty:
        return None
    return bands.figure(
        curves,
        "loss",
        "step",
        baselines,
        title="Training loss by step",
        axes="training loss, log scale, by step",
        x=alt.X(
            "step:Q",
            title=None,
            axis=alt.Axis(tickCount=4, format="~s"),
            scale=alt.Scale(nice=False),
        ),
        y=alt.Y(
            scale=alt.Scale(type="log", nice=False),
            axis=alt.Axis(values=theme.log_ticks(curves.loss.clip(lower=_LEAST))),
        ),
        least=_LEAST,
    )
