"""The time of training by every engine, a row a measure and engine, a column a backend."""

from collections.abc import Iterator
from typing import Any

from opproof import training_time
from opproof.summary.table import NOTHING, Section, Table, with_interval


def section(summary: dict[str, Any]) -> Section:
    """Return the table, and one of what the measures mean; none where nothing was timed."""
    record = summary["measurements"]["training_time"]
    if "missing" in record:
        return Section("Training time", record["missing"], [])
    of_measures = [
        Table("measures", training_time.columns(record), [*training_time.rows(record)]),
        Table(
            "what they mean",
            ["measure", "meaning"],
            [[*d] for d in training_time.definitions(record)],
        ),
    ]
    return Section("Training time", " ".join(_text(record)), of_measures)


def errors(summary: dict[str, Any]) -> Iterator[tuple[str | None, str, str]]:
    """Yield the backend (None of all), each error that it met, and a line that says so."""
    return training_time.errors(summary["measurements"]["training_time"])


def speed_up(summary: dict[str, Any], backend: str) -> str:
    """Word the reference loop's time over the engine's, of as many seeds together as was timed."""
    results, record = summary["results"], summary["measurements"]["training_time"]
    wanted = {"measure": "ratio_to_reference", "engine": results["engine"], "backend": backend}
    wanted |= {"arithmetic": results["precision"]}
    found = [
        row
        for row in record.get("rows", [])
        if row["error"] is None and all(row[key] == value for key, value in wanted.items())
    ]
    if not found:
        return NOTHING
    row = max(found, key=lambda row: row["seeds"])
    return f"{with_interval({**row, 'mean': row['value']}, '.2f')} {row['verdict']}"


def _text(record: dict[str, Any]) -> Iterator[str]:
    method, load, train = record["method"], record["load"], record["train"]
    yield (
        f"On {record['device']}: {record['hardware']}, {record['threads']} "
        f"thread{'s' * (record['threads'] > 1)}, torch {record['torch']}, {record['precision']}; "
        f"LeNet-5 on MNIST, batches of {train['batch_size']}; load average "
        f"{load['before'][0]:.2f} before, {load['after'][0]:.2f} after, on {load['cores']} cores."
    )
    yield (
        f"A run is {record['steps']:,} steps, without start-up, evaluation and event files, which "
        f"have rows of their own. {method['rounds']} rounds, in each of which all train for about "
        f"{method['stretch_seconds']:g} s or an epoch, one after another, in one process."
    )
    yield (
        f"FASTER, SAME and SLOWER: the whole {100 * method['confidence']:g} % interval is above, "
        f"within or below 1 by {100 * method['margin']:g} %; else UNCLEAR."
    )
    for mark in record["marks"]:
        yield f"Perhaps disturbed: {mark}."
    for entry in record["skipped"]:
        yield f"Skipped: {entry['engine']}, {entry['backend']}: {entry['reason']}."
