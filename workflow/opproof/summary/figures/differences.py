"""The differences of accuracy, paired by seed, with the margin of equivalence."""

from collections.abc import Iterator
from typing import Any

import altair as alt
import pandas as pd

from opproof.summary.figures import strips, theme
from opproof.summary.figures.figure import Figure, draw
from opproof.summary.table import one_name, with_interval

_DRAWN = 30  # seeds of a backend; the mean is over all
_SIGNED = "datum.value > 0 ? '+' + datum.label : datum.label"


def differences(backends: list[dict[str, Any]]) -> Figure | None:
    """Return the figure of the summary's backends; None where no runs could be paired."""
    compared = {
        backend["name"]: backend["comparison"]
        for backend in backends
        if backend["comparison"] and backend["comparison"]["differences"]
    }
    if not compared:
        return None
    one = next(iter(compared.values()))
    margin = one["margin"]
    baseline = one_name((found["baseline"] for found in compared.values()), "its baseline")
    data = pd.DataFrame([row for name, found in compared.items() for row in _rows(name, found)])
    chart = theme.below_key(
        strips.chart(
            data,
            "seed",
            alt.X(
                scale=alt.Scale(zero=True, nice=False, padding=12),
                axis=alt.Axis(**theme.STRIP_AXIS, labelExpr=_SIGNED),
            ),
            limits=[-margin, margin],
        ),
        f"test accuracy minus {baseline}'s of the same seed, percentage points",
        ("upright", strips.VALUE, f"a seed (at most {_DRAWN})"),
        ("rule", theme.LIMIT, f"margin, ±{margin:g}"),
        ("point", strips.MEAN, "mean over all seeds"),
        ("rule", strips.INTERVAL, "its 95 % interval"),
    )
    description = (
        f"A row a backend: its test accuracy minus {baseline}'s of the "
        "same seed, a stroke a seed, and the mean with its interval, beside the margin of "
        f"{margin:g} percentage points on either side of 0. "
    ) + theme.listed([f"{name}: {_words(found)}" for name, found in compared.items()])
    return draw("differences", "Accuracy, paired by seed", description, chart, data)


def _rows(name: str, found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the mean, without a seed, then the seeds."""
    interval = {key: found[key] for key in ("low", "high")}
    mean = {"backend": name, "seed": None, "value": found["mean"], **interval}
    yield {**mean, "words": _words(found)}
    for pair in found["differences"][:_DRAWN]:
        yield {"backend": name, "seed": pair["seed"], "value": pair["difference"]}


def _words(found: dict[str, Any]) -> str:
    words = f"{found['verdict']}, {with_interval(found, '+.3f')}"
    return words.replace("-", "\N{MINUS SIGN}")
