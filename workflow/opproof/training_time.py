"""The table of what `opproof timing training` has measured, in the terminal and in the summary."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

NOTHING = "-"

# Where the name of a measure has no unit that reads well: the heading, and what to multiply by.
_HEADINGS = {
    "step_seconds": ("step, ms", 1e3),
    "run_seconds": ("run, s", 1),
    "runs_per_minute": ("runs a minute", 1),
    "ratio_to_reference": ("ratio to the reference loop", 1),
    "evaluation_seconds": ("evaluation, s", 1),
    "start_up_seconds": ("start-up, s", 1),
    "event_files_seconds": ("event files, s", 1),
    "kernels_per_step": ("kernels a step", 1),
    "launch_gap_percent": ("launch gaps, %", 1),
    "peak_memory_bytes": ("peak memory, MB", 1e-6),
    "gpu_utilisation_percent": ("GPU utilisation, %", 1),
}
_ANY = "any"


def heading(measure: str) -> str:
    """Return how a measure of the record is called in the table."""
    return _HEADINGS[measure][0]


def columns(record: dict[str, Any]) -> list[str]:
    """Return the headings: the measure, what trains, and the backends."""
    return ["measure", "engine", *_backends(record)]


def rows(record: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the cells per measure and engine."""
    backends = _backends(record)
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in record["rows"]:
        if row["error"] is None:
            line = found.setdefault((row["measure"], trained_by(row, record["precision"])), {})
            line[row["backend"] or _ANY] = _figure(row)
    for measure in record["measures"]:
        for (of, engine), cells in found.items():
            if of == measure:
                yield [heading(of), engine, *(cells.get(name, NOTHING) for name in backends)]


def trained_by(row: dict[str, Any], precision: str) -> str:
    """Return how a row's engine is called, with what is not as usual: "kernel, 4 seeds"."""
    if row["engine"] is None:
        return _ANY
    words = [row["engine"]]
    words += [row["arithmetic"]] if row["arithmetic"] != precision else []
    words += [f"{row['seeds']} seeds"] if row["seeds"] > 1 else []
    return ", ".join(words)


def definitions(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each measure as it is called in the table, and what it means."""
    for measure, text in record["measures"].items():
        yield heading(measure), text


def errors(record: dict[str, Any]) -> Iterator[tuple[str | None, str, str]]:
    """Yield the backend (None of event files), each error, and a line that says where, once."""
    counts = Counter(
        (row["backend"], row["engine"], row["measure"], row["error"])
        for row in record.get("rows", [])
        if row["error"]
    )
    for (backend, engine, measure, error), count in counts.items():
        where = ", ".join(filter(None, (engine, measure and heading(measure))))
        times = f" ({count} times)" if count > 1 else ""
        yield backend, error, f"timing of training, {where}: {error}{times}"


def _backends(record: dict[str, Any]) -> list[str]:
    names = dict.fromkeys(row["backend"] for row in record["rows"] if row["error"] is None)
    return [*filter(None, names), *([_ANY] if None in names else [])]


def _figure(row: dict[str, Any]) -> str:
    if row["verdict"]:
        low, value, high = (f"{row[key]:.2f}" for key in ("low", "value", "high"))
        return f"{value} [{low}, {high}] {row['verdict']}"
    value = row["value"] * _HEADINGS[row["measure"]][1]
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"
