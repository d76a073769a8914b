"""How fast the operators read and write memory, by size, below what copying it reaches."""

from functools import partial
from typing import Any

import altair as alt
import pandas as pd

from opproof.summary.figures import theme
from opproof.summary.figures.figure import Figure, draw
from opproof.summary.figures.panels import panels
from opproof.summary.table import one_name

_WANTED = {"operation": "activation", "values": "normal", "direction": "forward"}
_GIGA = 1e9


def bandwidth(operators: dict[str, Any]) -> Figure | None:
    """Return the figure of timing/operators.json, None where nothing was timed."""
    data = _data(operators)
    if data.empty:
        return None
    baseline = one_name((row["baseline"] for row in operators["rows"]), "its baseline")
    x = alt.X(
        "elements:Q",
        title=None,
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(values=[10.0**power for power in range(1, 10)], format="~s"),
    )
    drawn = pd.concat([data[name] for name in ("bandwidth", "baseline", "copy")]).dropna()
    axis = alt.Axis(values=theme.log_ticks(drawn))
    y = partial(
        theme.of_column, alt.Y(scale=alt.Scale(type="log", nice=False, padding=6), axis=axis)
    )
    rows = alt.Chart(data)
    others = rows.transform_filter("isValid(datum.baseline)")
    layers = alt.layer(
        rows.mark_line(**theme.LIMIT).encode(x, y("copy")),
        others.mark_line(**theme.BASELINE).encode(x, y("baseline")),
        rows.mark_line(**theme.LINE).encode(x, y("bandwidth")),
        rows.mark_point(**theme.POINT).encode(x, y("bandwidth")),
    )
    chart = theme.below_key(
        panels(layers, "backend", [*data.backend.unique()]),
        "forward, GB/s by number of values, log scales",
        ("rule", theme.LINE, "the backend"),
        ("rule", theme.BASELINE, baseline),
        ("rule", theme.LIMIT, "a copy: the measured roof"),
    )
    return draw("bandwidth", "Bandwidth by size", _described(data, baseline), chart, data)


def _data(operators: dict[str, Any]) -> pd.DataFrame:
    """Return per backend and size the bandwidth, its baseline's and the copy's, in GB/s."""
    roof = {
        (row["baseline"], row["shape"][0]): row["bytes_per_second"] / _GIGA
        for row in operators.get("copy", [])
        if _is_wanted(row)
    }
    data = pd.DataFrame(
        [
            {
                "backend": row["backend"],
                "of": row["baseline"],
                "elements": row["shape"][0],
                "bandwidth": row["copy_percent"] / 100 * copied,
                "copy": copied,
            }
            for row in operators.get("rows", [])
            if _is_wanted(row) and row["mode"] == "allocated"
            if (copied := roof.get((row["baseline"], row["shape"][0])))
        ],
        columns=["backend", "of", "elements", "bandwidth", "copy"],
    )
    baselines = data[["of", "elements"]].merge(
        data[data.backend == data.of][["of", "elements", "bandwidth"]], how="left"
    )
    others = data.backend != data.of
    return data.assign(baseline=baselines.bandwidth.where(others)).drop(columns="of")


def _is_wanted(row: dict[str, Any]) -> bool:
    return len(row["shape"] or ()) == 1 and all(row[key] == _WANTED[key] for key in _WANTED)


def _described(data: pd.DataFrame, baseline: str) -> str:
    largest = data[data.elements == data.elements.max()]
    share = theme.listed(
        [f"{row.backend} {row.bandwidth / row.copy:.0%}" for row in largest.itertuples()]
    )
    return (
        "A panel a backend: bytes read and written per second by the forward operator against the "
        f"number of values, with {baseline}'s dashed, and above them a copy's, the most that "
        f"memory allows. Share of the copy at {data.elements.max():,} values: {share}"
    )
