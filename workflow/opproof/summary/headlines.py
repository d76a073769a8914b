"""The verdict on each backend, in a sentence."""

from collections.abc import Iterator
from typing import Any

from opproof import ulp
from opproof.summary import speed, verdicts
from opproof.summary.table import number, with_interval

_DIRECTIONS = ("forward", "backward")


def headlines(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return name and verdict of each backend."""
    return [
        (backend["name"], "; ".join(_parts(summary, backend)) + ".")
        for backend in summary["results"]["backends"]
    ]


def _parts(summary: dict[str, Any], backend: dict[str, Any]) -> Iterator[str]:
    yield _correctness(backend["verification"])
    compared = _training(backend)
    if compared:
        yield compared
    elif backend["name"] == backend["baseline"]:
        yield "the baseline of training"
    if backend["accuracy"] and not compared:
        yield f"mean accuracy {backend['accuracy']['mean']:.2f} %"
    if backend["seeds_ok"] < backend["seeds_planned"]:
        yield f"only {backend['seeds_ok']} of {_seeds(backend['seeds_planned'])} trained to the end"
    if timed := _speed(summary, backend["name"]):
        yield timed
    for flag in (backend["comparison"] or {"flags": []})["flags"]:
        yield f"FLAGGED: {flag}"


def _training(backend: dict[str, Any]) -> str | None:
    """Word what training with a backend comes to; None of the baseline, and without a pair."""
    found = backend["comparison"]
    if found is None or found["verdict"] is None:
        return None
    baseline, pairs = found["baseline"], _seeds(found["seeds"])
    apart = f"{with_interval(found, '+.3f')} points"
    match found["verdict"]:
        case "IDENTICAL":
            return f"training IDENTICAL to {baseline}'s, to the bit, in {pairs}"
        case "EQUIVALENT":
            within = f"within ±{found['margin']:g} points"
            return f"accuracy EQUIVALENT to {baseline}'s {within} ({apart}, {pairs})"
        case "DIFFERENT":
            return f"accuracy DIFFERENT from {baseline}'s ({apart}, {pairs})"
    if found["provable_margin"] is None:
        return (
            f"accuracy INCONCLUSIVE: one seed proves nothing (margin ±{found['margin']:g} points)"
        )
    return (
        f"accuracy INCONCLUSIVE: {pairs} prove ±{found['provable_margin']:.2f} points, not "
        f"±{found['margin']:g}; about {found['seeds_needed']} would"
    )


def _correctness(verification: dict[str, Any]) -> str:
    if verdicts.in_words(verification) != "pass":
        return f"verification: {verdicts.in_words(verification)}"
    worst = [error for error in ulp.worst(verification).values() if error is not None]
    errors = f" (largest error {number(max(worst))} ULP)" if worst else ""
    return f"PASSES verification{errors}"


def _speed(summary: dict[str, Any], backend: str) -> str | None:
    found = [
        f"{direction} {row['verdict']} ({row['ratio']['mean']:.2f} times {row['baseline']}'s speed)"
        for direction in _DIRECTIONS
        if (row := speed.row_of_a_million(summary, backend, direction))
    ]
    return ", ".join(found) or None


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}"
