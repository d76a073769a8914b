"""The table that has everything: a row a backend, for the page and for Markdown."""

from collections.abc import Iterator
from itertools import compress
from typing import Any

from opproof.summary import overview, speed, training, verdicts
from opproof.summary.table import NOTHING, Table, one_name, with_interval

CAPTION = (
    "[ ]: 95 % intervals. ULP: largest float32 error on [-12, 12], forward/backward. Seeds: "
    "trained to the end/planned. Churn: of 10,000 predictions, how many differ from the baseline's "
    "after the first/last epoch. Forward's and backward's speed-up: the baseline's time over the "
    "backend's for 1e6 values; training's: the reference loop's over the engine's; above 1 is "
    "faster. s/epoch: indicative, runs may have shared the machine."
)

_MEBI = 2**20


def table(summary: dict[str, Any]) -> Table:
    """Return the table, without the columns that nothing is known of."""
    backends = summary["results"]["backends"]
    baseline = one_name((backend["baseline"] for backend in backends), "the baseline")
    columns = [
        "backend",
        "verification",
        "ULP",
        "accuracy, %",
        "seeds",
        f"difference from {baseline}, points",
        "churn",
        "forward's speed-up",
        "backward's speed-up",
        "training's speed-up",
        "s/epoch",
        "GPU, %",
        "memory, MiB",
        "failures",
    ]
    short = overview.rows(summary)
    rows = [
        [*_cells(summary, backend, cells)] for backend, cells in zip(backends, short, strict=True)
    ]
    known = [{*cells} != {NOTHING} for cells in zip(*rows, strict=True)]
    return Table(CAPTION, [*compress(columns, known)], [[*compress(row, known)] for row in rows])


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
    yield _speed_up(summary, name, "forward")
    yield _speed_up(summary, name, "backward")
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


def _speed_up(summary: dict[str, Any], name: str, direction: str) -> str:
    row = speed.row_of_a_million(summary, name, direction)
    return f"{with_interval(row['ratio'], '.2f')} {row['verdict']}" if row else NOTHING


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    return f"{seconds:.3g}" if seconds < 999.5 else f"{seconds:.0f}"


def _span(values: list[float | None], unit: int = 1) -> str:
    """Word the lowest and the highest of values, in a unit: there may be 10,000."""
    known = [value / unit for value in values if value is not None]
    ends = dict.fromkeys(f"{end:.0f}" for end in (min(known), max(known))) if known else [NOTHING]
    return " to ".join(ends)
