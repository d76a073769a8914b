"""The summary's first table, one row a backend, with notes on what went wrong."""

from collections.abc import Iterable
from typing import Any

from opproof import ulp
from opproof.summary import speed, training, verdicts
from opproof.summary.table import NOTHING, number

# What has room on a terminal.
COLUMNS = {
    "backend": "backend",
    "verdict": "verdict",
    "ulp": "ULP",
    "accuracy": "accuracy, %",
    "interval": "95 % interval",
    "seeds": "seeds",
    "training": "training",
    "speed": "speed",
}
# How many reasons that runs failed for are told, and how many seeds of each: of thousands of runs
# as many may fail, and summary.json has them all.
_REASONS, _SEEDS = 5, 10
_FOOTNOTE = (
    "ULP: largest float32 error on [-12, 12], forward/backward; seeds: trained to the end/planned; "
    "training: accuracy against the baseline's, by seed; speed: the baseline's time over the "
    "backend's for 1e6 values, forward/backward, above 1 where the backend is faster"
)


def rows(summary: dict[str, Any]) -> list[dict[str, str]]:
    """Return a row per backend, keyed as COLUMNS, worded for a reader."""
    return [
        {
            "backend": backend["name"],
            "verdict": verdicts.in_words(backend["verification"]),
            "ulp": _ulp(backend["verification"]),
            "accuracy": _mean(backend["accuracy"]),
            "interval": _interval(backend["accuracy"]),
            "seeds": f"{backend['seeds_ok']}/{backend['seeds_planned']}",
            "training": _training(summary, backend),
            "speed": _speed(summary, backend["name"]),
        }
        for backend in summary["results"]["backends"]
    ]


def notes(summary: dict[str, Any]) -> list[str]:
    """Return a line for each thing that a reader must know besides: above all, failures."""
    backends = summary["results"]["backends"]
    lines = [
        f"{backend['name']}: {note}" for backend in backends for note in notes_on(summary, backend)
    ]
    names = {backend["name"] for backend in backends}
    others = [
        f"{name}: {line}" if name else line
        for name, _, line in _timing_errors(summary)
        if name not in names
    ]
    timings = (summary["measurements"][kind] for kind in ("operators", "training_time"))
    missing = [f"timing: {timing['missing']}" for timing in timings if "missing" in timing]
    return [*lines, *others, *dict.fromkeys(missing)]


def notes_on(summary: dict[str, Any], backend: dict[str, Any]) -> list[str]:
    """Return the notes on one backend: its verdict, its runs, its timing."""
    found = [*verdicts.notes(backend["verification"]), *_run_failures(backend)]
    found += [f"FLAGGED: {flag}" for flag in (backend["comparison"] or {"flags": []})["flags"]]
    for name, error, line in _timing_errors(summary):
        # Of what can't be used at all, verification has said so.
        if name == backend["name"] and not any(note.endswith(error) for note in found):
            found.append(line)
    return found


def caption(summary: dict[str, Any]) -> str:
    """Say in one line what the figures are of, and what is in the columns."""
    return f"{subject(summary)} {_FOOTNOTE}."


def subject(summary: dict[str, Any]) -> str:
    """Say what was trained, and how."""
    results = summary["results"]
    train = results["train"]
    devices = sorted({device for backend in results["backends"] for device in backend["devices"]})
    return (
        f"LeNet-5 on MNIST, epochs {train['epochs']}, batch size {train['batch_size']}, NAdam "
        f"{train['learning_rate']:g}, engine {results['engine']}, {results['precision']}, "
        f"device {' and '.join(devices) or 'none'}."
    )


def _timing_errors(summary: dict[str, Any]) -> list[tuple[str | None, str, str]]:
    return [*speed.errors(summary), *training.errors(summary)]


def _training(summary: dict[str, Any], backend: dict[str, Any]) -> str:
    if backend["name"] == backend["baseline"]:
        return "baseline"
    found = backend["comparison"]
    return (found["verdict"] or NOTHING) + "!" * bool(found["flags"])


def _mean(accuracy: dict[str, Any] | None) -> str:
    return f"{accuracy['mean']:.2f}" if accuracy else NOTHING


def _interval(accuracy: dict[str, Any] | None) -> str:
    if accuracy is None or accuracy["low"] is None:
        return NOTHING
    return f"{accuracy['low']:.2f} to {accuracy['high']:.2f}"


def _speed(summary: dict[str, Any], backend: str) -> str:
    timed = (speed.row_of_a_million(summary, backend, way) for way in ("forward", "backward"))
    means = (row["ratio"]["mean"] if row else None for row in timed)
    return _pair(NOTHING if one is None else f"{one:.{1 if one >= 9.995 else 2}f}" for one in means)


def _ulp(verification: dict[str, Any]) -> str:
    return _pair(number(worst) for worst in ulp.worst(verification).values())


def _pair(cells: Iterable[str]) -> str:
    """Word forward and backward in one cell, as narrow as can be."""
    forward, backward = cells
    return NOTHING if {forward, backward} == {NOTHING} else f"{forward}/{backward}"


def _run_failures(backend: dict[str, Any]) -> list[str]:
    """Return a line for each reason that runs failed for, naming seeds."""
    by_failure: dict[str, list[int]] = {}
    for run in backend["runs"]:
        if run["failure"]:
            by_failure.setdefault(run["failure"], []).append(run["seed"])
    lines = [
        f"seed{'s' * (len(seeds) > 1)} {_listed(seeds)}: {failure}"
        for failure, seeds in by_failure.items()
    ]
    if len(lines) > _REASONS:
        seeds_more = sum(map(len, [*by_failure.values()][_REASONS:]))
        lines[_REASONS:] = [
            f"{seeds_more} seeds more, for {len(lines) - _REASONS} reasons more, in summary.json"
        ]
    return lines


def _listed(seeds: list[int]) -> str:
    more = f" and {len(seeds) - _SEEDS} more" if len(seeds) > _SEEDS else ""
    return ", ".join(map(str, seeds[:_SEEDS])) + more
