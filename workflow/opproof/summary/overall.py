"""The table that has everything: a row a backend, for the page and for Markdown."""

from collections.abc import Iterator
from typing import Any

from opproof.summary import overview, speed, training, verdicts
from opproof.summary.table import NOTHING, with_interval

CAPTION = (
    "ULP: largest float32 error on [-12, 12], forward/backward. Seeds: trained to the end/planned. "
    "Churn: of 10,000 predictions, how many differ from the baseline's after the first/last epoch. "
    "Operator's speed-up: torch's time over the backend's for 1e6 values, forward / backward; "
    "training's: the reference loop's over the engine's; above 1 is faster. s/epoch: indicative, "
    "runs may have shared the machine. GPU and memory: of the training jobs, where there was one."
)

_MEBI = 2**20


def columns(summary: dict[str, Any]) -> list[str]:
    """Return the headings."""
    baseline = summary["results"]["baseline"]
    return [
        "backend",
        "verification",
        "ULP",
        "accuracy, % [95 %]",
        "seeds",
        f"difference from {baseline}, points [95 %]",
        "churn",
        "operator's speed-up",
        "training's speed-up",
        "s/epoch",
        "GPU, %",
        "memory, MiB",
        "failures",
    ]


def rows(summary: dict[str, Any]) -> list[list[str]]:
    """Return the cells of each backend."""
    short = overview.rows(summary)
    return [
        [*_cells(summary, backend, cells)]
        for backend, cells in zip(summary["results"]["backends"], short, strict=True)
    ]


def _cells(
    summary: dict[str, Any], backend: dict[str, Any], short: dict[str, str]
) -> Iterator[str]:
    name, measured = backend["name"], summary["measurements"]["training"][backend["name"]]
    yield name
    yield verdicts.in_words(backend["verification"])
    yield short["ulp"]
    yield with_interval(backend["accuracy"], ".2f")
    yield short["seeds"]
    yield _difference(backend["comparison"])
    yield _churn(backend["comparison"])
    yield _speed_up(summary, name)
    yield training.speed_up(summary, name)
    yield _seconds(measured["seconds_per_epoch"])
    yield _span([one["utilisation_percent"] for one in measured["gpu"]])
    yield _span([one["peak_memory_bytes"] for one in measured["gpu"]], _MEBI)
    yield str(backend["seeds_planned"] - backend["seeds_ok"])


def _difference(comparison: dict[str, Any] | None) -> str:
    if comparison is None or comparison["verdict"] is None:
        return NOTHING
    flagged = ", FLAGGED" * bool(comparison["flags"])
    return f"{with_interval(comparison, '+.3f')} {comparison['verdict']}{flagged}"


def _churn(comparison: dict[str, Any] | None) -> str:
    churn = (comparison or {"churn": {}})["churn"].values()
    means = [f"{found['mean']:.1f}" for found in churn if found]
    return "/".join(means) or NOTHING


def _speed_up(summary: dict[str, Any], name: str) -> str:
    found = (speed.row_of_a_million(summary, name, way) for way in ("forward", "backward"))
    cells = (f"{with_interval(row['ratio'], '.2f')} {row['verdict']}" for row in found if row)
    return " / ".join(cells) or NOTHING


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    return f"{seconds:.3g}" if seconds < 999.5 else f"{seconds:.0f}"


def _span(values: list[float | None], unit: int = 1) -> str:
    """Word the lowest and the highest of values, in a unit: there may be 10,000."""
    known = [value / unit for value in values if value is not None]
    ends = dict.fromkeys(f"{end:.0f}" for end in (min(known), max(known))) if known else [NOTHING]
    return " to ".join(ends)
