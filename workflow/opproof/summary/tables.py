"""The summary as a table, one row a backend, with notes on what went wrong; in several formats."""

import csv
import io
from typing import Any

COLUMNS = {
    "backend": "backend",
    "verification": "verification",
    "accuracy": "accuracy, %",
    "interval": "95 % interval",
    "seeds": "seeds",
    "time": "s/epoch*",
}
_FOOTNOTE = "seeds: trained to the end/planned; *: indicative, runs may have shared the machine"

_VERDICTS = {
    ("pass", "pass"): "pass",
    ("fail", "pass"): "REFUSED",
    ("fail", "fail"): "fails as expected",
    ("pass", "fail"): "PASSES unexpectedly",
}


def verdict_in_words(verification: dict[str, Any]) -> str:
    """Word a verdict and whether it was expected."""
    return _VERDICTS.get((verification["verdict"], verification["expected"]), "MISSING")


def rows(summary: dict[str, Any]) -> list[dict[str, str]]:
    """Return a row per backend, keyed as COLUMNS, worded for a reader."""
    return [
        {
            "backend": backend["name"],
            "verification": verdict_in_words(backend["verification"]),
            "accuracy": _mean(backend["accuracy"]),
            "interval": _interval(backend["accuracy"]),
            "seeds": f"{backend['seeds_ok']}/{backend['seeds_planned']}",
            "time": _seconds(summary["measurements"][backend["name"]]["seconds_per_epoch"]),
        }
        for backend in summary["results"]["backends"]
    ]


def notes(summary: dict[str, Any]) -> list[str]:
    """Return a line for each thing that a reader must know besides: above all, failures."""
    return [
        f"{backend['name']}: {note}"
        for backend in summary["results"]["backends"]
        for note in (*_verdict_notes(backend["verification"]), *_run_failures(backend))
    ]


def as_markdown(summary: dict[str, Any]) -> str:
    """Return the table in Markdown, the notes and a line on what was trained below it."""
    headings = [heading.replace("*", "\\*") for heading in COLUMNS.values()]
    lines = [_row(headings), _row(["---"] * len(COLUMNS))]
    lines += [_row([row[key] for key in COLUMNS]) for row in rows(summary)]
    lines += ["", *(f"- {note}" for note in notes(summary)), "", caption(summary), ""]
    return "\n".join(lines)


def as_csv(summary: dict[str, Any]) -> str:
    """Return the table's figures in CSV, unrounded, empty where there is none."""
    buffer = io.StringIO()
    header = ["backend", "verdict", "expected_verdict", "accuracy_mean_percent", "accuracy_low"]
    header += ["accuracy_high", "seeds_ok", "seeds_planned", "seconds_per_epoch", "notes"]
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for backend in summary["results"]["backends"]:
        accuracy = backend["accuracy"] or {"mean": None, "low": None, "high": None}
        writer.writerow(
            [
                backend["name"],
                backend["verification"]["verdict"],
                backend["verification"]["expected"],
                *(accuracy[key] for key in ("mean", "low", "high")),
                backend["seeds_ok"],
                backend["seeds_planned"],
                summary["measurements"][backend["name"]]["seconds_per_epoch"],
                "; ".join((*_verdict_notes(backend["verification"]), *_run_failures(backend))),
            ]
        )
    return buffer.getvalue()


def caption(summary: dict[str, Any]) -> str:
    """Say in one line what the figures are of."""
    results = summary["results"]
    train = results["train"]
    devices = sorted({device for backend in results["backends"] for device in backend["devices"]})
    return (
        f"LeNet-5 on MNIST, epochs {train['epochs']}, batch size {train['batch_size']}, NAdam "
        f"{train['learning_rate']:g}, engine {results['engine']}, {results['precision']}, "
        f"device {' and '.join(devices) or 'none'}. {_FOOTNOTE}."
    )


def _mean(accuracy: dict[str, Any] | None) -> str:
    return f"{accuracy['mean']:.2f}" if accuracy else "-"


def _interval(accuracy: dict[str, Any] | None) -> str:
    if accuracy is None or accuracy["low"] is None:
        return "-"
    return f"{accuracy['low']:.2f} to {accuracy['high']:.2f}"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.3g}"


def _verdict_notes(verification: dict[str, Any]) -> list[str]:
    if verification["verdict"] == verification["expected"]:
        expectation = verification.get("expectation")
        return [f"expected to {verification['expected']}: {expectation}"] if expectation else []
    return verification["reasons"] or [f"expected to {verification['expected']}"]


def _run_failures(backend: dict[str, Any]) -> list[str]:
    """Return a line for each reason that runs failed for, naming their seeds."""
    by_failure: dict[str, list[int]] = {}
    for run in backend["runs"]:
        if run["failure"]:
            by_failure.setdefault(run["failure"], []).append(run["seed"])
    return [
        f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}: {failure}"
        for failure, seeds in by_failure.items()
    ]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
