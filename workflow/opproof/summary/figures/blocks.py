"""The time of the operators against a baseline's: the ratio of each round of blocks."""

from collections.abc import Iterator
from typing import Any

import altair as alt
import pandas as pd

from opproof.summary import speed
from opproof.summary.figures import strips, theme
from opproof.summary.figures.figure import Figure, draw
from opproof.summary.table import one_name, with_interval

_DIRECTIONS = {"forward": "forward", "backward": "backward", "both": "forward and backward"}


def blocks(summary: dict[str, Any]) -> Figure | None:
    """Return the figure of the timing of 1e6 values, None where nothing was timed."""
    names = dict.fromkeys(
        row["backend"] for row in summary["measurements"]["operators"].get("rows", [])
    )
    data = pd.DataFrame(
        [
            row
            for direction in _DIRECTIONS
            for name in names
            for row in _rows(name, direction, speed.row_of_a_million(summary, name, direction))
        ]
    )
    if data.empty:
        return None
    timed = summary["measurements"]["operators"]["rows"]
    baseline = one_name((row["baseline"] for row in timed), "the baseline")
    x = strips.ratios(data.value)
    drawn = alt.vconcat(
        *(
            strips.chart(of, "round", x, limits=[1.0]).properties(title=_DIRECTIONS[direction])
            for direction in _DIRECTIONS
            if not (of := data[data.direction == direction]).empty
        ),
        spacing=16,
    ).resolve_scale(x="shared")
    chart = theme.below_key(
        drawn,
        f"{baseline}'s time over the backend's, 1e6 values, log scale",
        ("upright", strips.VALUE, "a round of blocks"),
        ("rule", theme.LIMIT, f"as {baseline}; right: faster"),
        ("point", strips.MEAN, "geometric mean"),
        ("rule", strips.INTERVAL, "its 95 % interval"),
    )
    means = data[data["round"].isna()]
    description = (
        f"A row a backend for forward, backward and both: {baseline}'s time over the backend's for "
        "1e6 values, a stroke for each round of interleaved blocks, and their mean with its "
        "interval, beside a line at 1. "
    ) + theme.listed([f"{row.backend}, {row.direction}: {row.words}" for row in means.itertuples()])
    return draw("blocks", f"Time against {baseline}, by block", description, chart, data)


def _rows(name: str, direction: str, row: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Yield the mean, without a round, then the rounds."""
    if row is None:
        return
    of = {"direction": direction, "backend": name}
    low, mean, high = (row["ratio"][key] for key in ("low", "mean", "high"))
    words = f"{row['verdict']}, {with_interval(row['ratio'], '.2f')}"
    yield {**of, "round": None, "value": mean, "low": low, "high": high, "words": words}
    for number, ratio in enumerate(row["ratios"], 1):
        yield {**of, "round": number, "value": ratio}
