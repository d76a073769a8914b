"""Words the record of `opproof timing operators` as plain text, a line per backend and case."""

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Any

_DIRECTIONS = ("forward", "backward", "both")
_CASE = ("operation", "shape", "values")
_NOTE = {"allocated": "", "out": " out", "graph": " graph"}
_BY_AUTOGRAD = "~"
_MARK = "!"


def as_text(record: dict[str, Any]) -> str:
    """Return tables of the operations, with what they mean, errors and what was skipped."""
    lines = []
    rows = [row for row in record["rows"] if row["error"] is None]
    for operation, title in (
        ("activation", "Activation"),
        (
            "pooled",
            "Activation, 2x2 average pool, activation: one operator against three",
        ),
    ):
        if of_operation := [row for row in rows if row["operation"] == operation]:
            lines += [title, "", *_table(of_operation), ""]
    return "\n".join([*lines, *_notes(record)])


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    cells = [["shape", "backend"] + [f for name in _DIRECTIONS for f in (name, "ns/el", "copy%")]]
    for _, of_case in groupby(rows, key=lambda row: [row[key] for key in _CASE]):
        cells += _case(list(of_case))
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for row in cells:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        yield "  ".join([*left, *right]).rstrip()


def _case(rows: list[dict[str, Any]]) -> Iterator[list[str]]:
    """Yield a line's cells per backend and mode; the case is named in the first alone."""
    label = _label(rows[0])
    by_line: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        by_line.setdefault((row["backend"], row["mode"]), {})[row["direction"]] = row
    order = list(dict.fromkeys(row["backend"] for row in rows))
    for (backend, mode), found in sorted(
        by_line.items(), key=lambda line: (list(_NOTE).index(line[0][1]), order.index(line[0][0]))
    ):
        figures = (cell for name in _DIRECTIONS for cell in _figures(found.get(name)))
        yield [label, f"{backend}{_NOTE[mode]}", *figures]
        label = ""


def _label(case: dict[str, Any]) -> str:
    shape = "x".join(map(str, case["shape"]))
    return shape if case["values"] == "normal" else f"{shape} {case['values']}"


def _figures(row: dict[str, Any] | None) -> list[str]:
    if row is None:
        return ["", "", ""]
    mark = _BY_AUTOGRAD if row["direction"] == "backward" and row["via"] == "autograd" else ""
    return [_ratio(row) + mark, _number(row["ns_per_element"]), f"{row['copy_percent']:.0f}"]


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _ratio(row: dict[str, Any]) -> str:
    if row["ratio"] is None:
        return "-"
    low, mean, high = (f"{row['ratio'][key]:.2f}" for key in ("low", "mean", "high"))
    return f"{row['verdict']} {mean} [{low}, {high}]{_MARK * bool(row['marks'])}"


def _notes(record: dict[str, Any]) -> Iterator[str]:
    method, load = record["method"], record["load"]
    yield (
        f"torch {record['torch']}, {record['device']}: {record['hardware']}, "
        f"{record['threads']} thread, float32."
    )
    yield (
        "A ratio is the baseline's time over the backend's: the geometric mean of up to "
        f"{method['rounds']} rounds and its {method['confidence']:.0%} interval;"
    )
    yield (
        f"FASTER, SAME and SLOWER: all of it above, within or below 1 by {method['margin']:.0%}, "
        "else UNCLEAR."
    )
    yield (
        "ns/el: median per element; copy%: of the bandwidth of a copy. out: the result goes into "
        "memory that is there;"
    )
    yield f"{_BY_AUTOGRAD}: through autograd, there being no backward operator."
    yield (
        f"Load average {load['before'][0]:.2f} before, {load['after'][0]:.2f} after, on "
        f"{load['cores']} cores; torch.compile took {record['compile_seconds']:.0f} s."
    )
    yield from _marks(record["rows"])
    yield from _errors(record["rows"])
    for case in record["skipped"]:
        yield f"Skipped: {case['operation']} {_label(case)}: {case['reason']}."


def _marks(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each mark, and of how many rows."""
    for mark, count in Counter(mark for row in rows for mark in row["marks"]).items():
        yield f"{_MARK} {mark}" + f" ({count} figures)" * (count > 1)


def _errors(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each error of a backend, and of how many rows."""
    counts = Counter((row["backend"], row["operation"], row["error"]) for row in rows)
    for (backend, operation, error), count in counts.items():
        if error:
            yield f"ERROR: {backend}, {operation}: {error}" + f" ({count} times)" * (count > 1)
