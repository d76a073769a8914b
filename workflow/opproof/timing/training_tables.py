"""Words the record of `opproof timing training` as plain text, a line per measure and engine."""

from collections.abc import Iterator
from typing import Any

from opproof import training_time


def as_text(record: dict[str, Any]) -> str:
    """Return the table, with what it means, errors and what was skipped."""
    cells = [training_time.columns(record), *training_time.rows(record)]
    return "\n".join([*_table(cells), "", *_notes(record)])


def _table(cells: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    last = ""
    for first, *others in cells:
        label = "" if first == last else first  # a measure is named in its first line alone
        last = first
        row = [label.ljust(widths[0]), others[0].ljust(widths[1])]
        row += [cell.rjust(width) for cell, width in zip(others[1:], widths[2:], strict=True)]
        yield "  ".join(row).rstrip()


def _notes(record: dict[str, Any]) -> Iterator[str]:
    method, load = record["method"], record["load"]
    yield (
        f"torch {record['torch']}, {record['device']}: {record['hardware']}, {record['threads']} "
        f"thread, {record['precision']}; batches of {record['train']['batch_size']}."
    )
    yield (
        f"{method['rounds']} rounds, in each of which all train for about "
        f"{method['stretch_seconds']:g} s or an epoch, one after another."
    )
    yield (
        f"FASTER, SAME and SLOWER: all of the {method['confidence']:.0%} interval above, within or "
        f"below 1 by {method['margin']:.0%}, else UNCLEAR."
    )
    yield (
        f"Load average {load['before'][0]:.2f} before, {load['after'][0]:.2f} after, on "
        f"{load['cores']} cores."
    )
    for heading, text in training_time.definitions(record):
        yield f"{heading}: {text}"
    for backend, _, line in training_time.errors(record):
        yield f"ERROR: {backend}: {line}" if backend else f"ERROR: {line}"
    for mark in record["marks"]:
        yield f"Perhaps disturbed: {mark}."
    for entry in record["skipped"]:
        yield f"Skipped: {entry['engine']}, {entry['backend']}: {entry['reason']}."
