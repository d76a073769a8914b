"""The time of the operators against their baselines: a row an input, a column a backend."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from opproof.backends import BASELINE
from opproof.summary.table import NOTHING, Section, Table, with_interval

_OPERATIONS = {
    "activation": "",
    "pooled": "activation, pool and activation in one, against three operators: ",
}
# An "out", into memory that is there, is in summary.json alone: nobody's model calls it.
_MODES = {"allocated": "", "graph": ", in a CUDA graph"}
_DIRECTIONS = {"forward": "forward", "backward": "backward", "both": "forward and backward"}
_TITLE = "Time against"
_MILLION = {"operation": "activation", "shape": [1_000_000], "values": "normal"}
_BY_AUTOGRAD = "~"
_MARK = "!"


def section(summary: dict[str, Any]) -> Section:
    """Return the tables; none where nothing was timed."""
    record = summary["measurements"]["operators"]
    if "missing" in record:
        return Section(f"{_TITLE} {BASELINE}", record["missing"], [])
    # Those that could not be timed have rows of their own, before all others.
    timed = sorted(record["rows"], key=lambda row: row["error"] is not None)
    baselines = list(dict.fromkeys(row["baseline"] for row in timed))
    tables = [
        _table(f"{what}{_DIRECTIONS[direction]}{how}", baseline, rows)
        for baseline in baselines
        for operation, what in _OPERATIONS.items()
        for mode, how in _MODES.items()
        for direction in _DIRECTIONS
        if (
            rows := _select(
                record, baseline=baseline, operation=operation, mode=mode, direction=direction
            )
        )
    ]
    return Section(f"{_TITLE} {' and '.join(baselines)}", " ".join(_text(record)), tables)


def row_of_a_million(
    summary: dict[str, Any], backend: str, direction: str
) -> dict[str, Any] | None:
    """Return the record's row for 1e6 values; None of a baseline, and if not timed."""
    record = summary["measurements"]["operators"]
    wanted = {**_MILLION, "backend": backend, "mode": "allocated", "direction": direction}
    return next((row for row in _select(record, **wanted) if row["ratio"]), None)


def errors(summary: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the backend, each error that it met in timing, and a line that says so."""
    counts = Counter(
        (row["backend"], row["operation"], row["error"])
        for row in summary["measurements"]["operators"].get("rows", [])
        if row["error"]
    )
    for (backend, operation, error), count in counts.items():
        times = f" ({count} times)" if count > 1 else ""
        yield backend, error, f"timing, {operation}: {error}{times}"


def _select(record: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    """Return the rows that are as wanted; a mode is wanted, so that of an error there is none."""
    return [
        row
        for row in record.get("rows", [])
        if all(row[key] == value for key, value in wanted.items())
    ]


def _table(caption: str, baseline: str, rows: list[dict[str, Any]]) -> Table:
    backends = [name for name in dict.fromkeys(row["backend"] for row in rows) if name != baseline]
    by_input: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        by_input.setdefault(_input(row), {})[row["backend"]] = row
    return Table(
        caption,
        ["input", f"{baseline}, ns", *backends],
        [
            [given, _nanoseconds(found.get(baseline)), *(_ratio(found.get(b)) for b in backends)]
            for given, found in by_input.items()
        ],
    )


def _input(row: dict[str, Any]) -> str:
    shape = "x".join(f"{length:,}" for length in row["shape"])
    return shape if row["values"] == "normal" else f"{shape} {row['values']}"


def _nanoseconds(row: dict[str, Any] | None) -> str:
    return f"{row['ns_per_element']:.3g}" if row else NOTHING


def _ratio(row: dict[str, Any] | None) -> str:
    if row is None or row["ratio"] is None:
        return NOTHING
    by_autograd = row["direction"] == "backward" and row["via"] == "autograd"
    marks = _BY_AUTOGRAD * by_autograd + _MARK * bool(row["marks"])
    return f"{with_interval(row['ratio'], '.2f')} {row['verdict']}{marks}"


def _text(record: dict[str, Any]) -> Iterator[str]:
    method, load = record["method"], record["load"]
    yield (
        f"On {record['device']}: {record['hardware']}, {record['threads']} "
        f"thread{'s' * (record['threads'] > 1)}, torch {record['torch']}, float32; load average "
        f"{load['before'][0]:.2f} before, {load['after'][0]:.2f} after, on {load['cores']} cores."
    )
    yield (
        "Of a baseline, as torch is of GELU, the time is shown, in ns per element; of the others "
        "the ratio, its time over theirs, above 1 where they are faster: the geometric mean of up "
        f"to {method['rounds']} rounds, in each of which all are timed in interleaved blocks of "
        f"{1e3 * method['block_seconds']:g} ms, and its {100 * method['confidence']:g} % interval."
    )
    yield (
        "FASTER, SAME and SLOWER: the whole interval is above, within or below 1 by "
        f"{100 * method['margin']:g} %; else UNCLEAR. {_BY_AUTOGRAD}: through autograd, there "
        "being no backward operator, while F.gelu's is called alone."
    )
    for mark, count in Counter(mark for row in record["rows"] for mark in row["marks"]).items():
        yield f"{_MARK}: {mark}, {count} figure{'s' * (count > 1)}."
    for case in record["skipped"]:
        yield f"Skipped: {case['operation']}, {_input(case)}: {case['reason']}."
