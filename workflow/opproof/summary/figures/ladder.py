"""The speed of training: from the textbook's loop up to the fastest engine."""

from typing import Any

import pandas as pd

from opproof.backends import BASELINE
from opproof.summary.figures import strips, theme
from opproof.summary.figures.figure import Figure, draw
from opproof.training_time import trained_by

_DRAWN = 3  # backends beside the baseline: those that every engine trains, as far as there are
_YARDSTICK = (BASELINE, "reference")  # what all ratios are to; it has none


def ladder(training_time: dict[str, Any]) -> Figure | None:
    """Return the figure of timing/training.json, None where nothing was timed."""
    data = _data(training_time)
    if data.empty:
        return None
    steps = training_time["steps"]
    chart = theme.below_key(
        strips.chart(data, None, strips.ratios(data.value), limits=[1.0], bars=True),
        f"times as fast as {BASELINE}'s reference loop, log scale",
        ("point", strips.MEAN, "ratio of times"),
        ("rule", strips.INTERVAL, "its 95 % interval"),
        ("rule", theme.LIMIT, "as fast as the loop"),
    )
    description = (
        f"A row for each way to train, of {BASELINE} and of up to {_DRAWN} backends with a kernel "
        "engine, if there are any: how many times as fast it is as the textbook's loop, with bar "
        f"and interval, and the time of a run of {steps:,} steps. "
    ) + theme.listed([f"{row.backend}: {row.words}" for row in data.itertuples()])
    return draw("ladder", "Speed of training, from the loop up", description, chart, data)


def _data(training_time: dict[str, Any]) -> pd.DataFrame:
    """Return a row a way to train: its name, the time of a run, the ratio with its interval."""
    rows = [row for row in training_time.get("rows", []) if row["error"] is None and row["engine"]]
    by_way: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        way = row["backend"], trained_by(row, training_time["precision"])
        by_way.setdefault(way, {})[row["measure"]] = row
    drawn = _backends(rows)
    return pd.DataFrame(
        [
            _row(", ".join(way), found)
            for way, found in by_way.items()
            if way[0] in drawn and "run_seconds" in found
            if "ratio_to_reference" in found or way == _YARDSTICK
        ]
    )


def _backends(rows: list[dict[str, Any]]) -> list[str]:
    """Return the baseline and those that the engine kernel trains, or if there are none others."""
    others = dict.fromkeys(row["backend"] for row in rows if row["backend"] != BASELINE)
    kernel = {row["backend"] for row in rows if row["engine"] == "kernel"}
    return [BASELINE, *([name for name in others if name in kernel] or [*others])[:_DRAWN]]


def _row(name: str, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    run = found["run_seconds"]
    seconds = run["value"] / run["seeds"]
    ratio = found.get("ratio_to_reference", {"value": 1.0, "low": None, "high": None})
    figures = {key: ratio[key] for key in ("value", "low", "high")}
    words = f"{_short(seconds)} s a run, {_short(ratio['value'])}{theme.TIMES}"
    return {"backend": name, "seconds": seconds, **figures, "words": words}


def _short(number: float) -> str:
    return f"{number:#.3g}".removesuffix(".")
