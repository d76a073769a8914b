"""A quantity of training over time: a panel a backend, with seeds, their band and their mean."""

from functools import partial
from typing import Any

import altair as alt
import pandas as pd

from opproof.summary.figures import theme
from opproof.summary.figures.figure import Figure, draw
from opproof.summary.figures.panels import panels
from opproof.summary.table import one_name

_FEW = 20  # so many points, or fewer, are marked: a line alone would hide how few they are
_MEAN_OF_BASELINE = "mean_of_baseline"


def figure(
    curves: pd.DataFrame,
    quantity: str,
    against: str,
    baselines: dict[str, str],
    title: str,
    axes: str,
    x: alt.X,
    y: alt.Y,
    least: float | None = None,
) -> Figure:
    """Return the figure of `curves`, as of summary/curves.py: panels below a key, named `quantity`.

    `baselines` has each backend's, whose mean is dashed in its panel. x is what the quantity is
    plotted against; y has its scale and axis, `axes` says what both are.
    Values below `least` are drawn there.
    """
    data = _with_baseline(curves, quantity, against, baselines)
    drawn = data
    if least is not None:
        drawn = data.assign(**data[[quantity, "low", "high", _MEAN_OF_BASELINE]].clip(lower=least))
    baseline = one_name(baselines.values(), "its baseline")
    chart = _chart(drawn, axes, x, quantity, y, baseline)
    description = _described(curves, quantity, against, baseline)
    return draw(quantity, title, description, chart, data)


def _with_baseline(
    curves: pd.DataFrame, quantity: str, against: str, baselines: dict[str, str]
) -> pd.DataFrame:
    """Return the curves with their baselines' means as a column, in the rows of others' means."""
    of = curves.backend.map(baselines)
    means = curves[curves.seed.isna()].set_index(["backend", against])[quantity]
    found = pd.MultiIndex.from_arrays([of, curves[against]]).map(means)
    others = curves.seed.isna() & (curves.backend != of)
    return curves.assign(
        **{_MEAN_OF_BASELINE: pd.Series(found, curves.index, dtype=float).where(others)}
    )


def _chart(
    curves: pd.DataFrame, axes: str, x: alt.X, quantity: str, y: alt.Y, baseline: str
) -> Any:
    """Return the panels below a key; `curves` as of `_with_baseline`, the rest as of `figure`."""
    at = partial(theme.of_column, y)
    data = alt.Chart(curves)
    seeds = data.transform_filter("isValid(datum.seed)")
    means = data.transform_filter("!isValid(datum.seed)")
    few = curves.groupby(["backend", "seed"], dropna=False).size().max() <= _FEW
    points: theme.Form = {"point": {"color": theme.BLUE, "size": 18}} if few else {}
    layers = alt.layer(
        means.transform_filter("isValid(datum.low)")
        .mark_area(**theme.BAND)
        .encode(x, at("low"), alt.Y2("high")),
        seeds.mark_line(**theme.FAINT).encode(x, at(quantity), alt.Detail("seed:N")),
        means.mark_line(**theme.LINE, **points).encode(x, at(quantity)),
        means.transform_filter(f"isValid(datum.{_MEAN_OF_BASELINE})")
        .mark_line(**theme.BASELINE)
        .encode(x, at(_MEAN_OF_BASELINE)),
    )
    return theme.below_key(
        panels(layers, "backend", [*curves.backend.unique()]),
        axes,
        ("rule", theme.LINE, "mean over seeds"),
        ("rule", theme.FAINT, "single seeds"),
        *[("rect", theme.BAND, "middle 90 % of seeds")] * bool(curves.low.notna().any()),
        *[("rule", theme.BASELINE, f"mean of {baseline}")]
        * bool(curves[_MEAN_OF_BASELINE].notna().any()),
    )


def _described(curves: pd.DataFrame, quantity: str, against: str, baseline: str) -> str:
    """Say in words what the panels show, and where the curves end."""
    means = curves[curves.seed.isna()]
    end = means[against].max()
    ends = means[means[against] == end].set_index("backend")[quantity]
    drawn = curves[curves.seed.notna()].groupby("backend").seed.nunique()
    return (
        f"A panel a backend: the mean over its seeds, single seeds faint (at most {drawn.max()}), "
        f"{baseline}'s mean dashed. At {against} {end:,} the mean is {_range(ends)}."
    )


def _range(ends: pd.Series) -> str:
    """Word the least and the greatest value, by backend; where they read alike, that of each."""
    (lowest, least), (highest, greatest) = (
        (name, f"{ends[name]:.4g}") for name in (ends.idxmin(), ends.idxmax())
    )
    if least == greatest:
        return f"{least} in each"
    return f"{least} ({lowest}) to {greatest} ({highest})"
