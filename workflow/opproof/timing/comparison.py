"""Compares contenders on one case in one direction: a row for each and its ways of calling."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy import stats

from opproof.operators import MACHINE_FAULTS
from opproof.timing import blocks, calls, ratio
from opproof.timing.blocks import Sample
from opproof.timing.calls import Call, Inputs
from opproof.timing.cases import Case
from opproof.timing.contenders import Contender
from opproof.timing.disturbance import Watch

# Above, launching takes no part of the time; and each graph keeps memory of its own.
_LARGEST_IN_GRAPH = 1_000_000  # elements

_COPY = "copy"

# Beyond these a figure is suspicious: in per cent of a copy's bandwidth, and times as fast as
# the baseline, where that reaches so many per cent of it. For inputs that no cache holds whole.
_MOST_OF_A_COPY, _MOST_OVER_BASELINE, _BASELINE_IS_FAST = 105.0, 2.0, 70.0
_BOUND_BY_MEMORY = 1_000_000  # elements


@dataclass(frozen=True)
class Comparison:
    """Rows of the record, the copy's bytes per second, and the seconds that torch.compile took."""

    rows: list[dict[str, Any]]
    copy_bandwidth: float
    compile_seconds: float


@dataclass(frozen=True)
class _Entry:
    backend: str
    call: Call


def compare(
    contenders: Sequence[Contender], case: Case, direction: str, where: torch.device
) -> Comparison:
    """Time the contenders, of which the first is the baseline, and a copy, in the same blocks.

    Raises what the baseline raises, and what is the machine's fault; what another raises stands in
    a row of its own.
    """
    baseline = contenders[0].backend
    watch = Watch(where)
    given = calls.inputs(contenders[0], direction, case.input(where))
    graphs = _has_graphs(case, where)
    entries: list[_Entry] = []
    errors: list[tuple[str, Exception]] = []
    compile_seconds = 0.0
    with torch.set_grad_enabled(direction == "both"):
        for contender in contenders:
            started = time.perf_counter()
            try:
                for call in _called_once(contender, direction, given, graphs):
                    entries.append(_Entry(contender.backend, call))
            except MACHINE_FAULTS:
                raise
            except Exception as error:  # somebody's code: what it raises is a finding about it
                errors.append((contender.backend, error))
            if contender.is_compiled:
                compile_seconds += time.perf_counter() - started
        entries += [_Entry(_COPY, call) for call in _copies(given, graphs)]
        functions = [entry.call.function for entry in entries]
        outcomes = blocks.measure(functions, where, case.rounds(blocks.ROUNDS))
    samples: dict[tuple[str, str], list[Sample]] = {}
    for entry, outcome in zip(entries, outcomes, strict=True):
        if isinstance(outcome, Exception):
            errors.append((entry.backend, outcome))
        else:
            samples[entry.backend, entry.call.mode] = [s.per(entry.call.works) for s in outcome]
    for backend, raised in errors:
        if backend in (baseline, _COPY):
            raise raised
    marks = watch.marks()
    return Comparison(
        [
            _figures(entry, case, direction, given.bytes_moved(direction), samples, baseline, marks)
            for entry in entries
            if entry.backend != _COPY and (entry.backend, entry.call.mode) in samples
        ]
        + [
            row(backend, baseline, case.operation, case, direction, error=blocks.worded(raised))
            for backend, raised in errors
        ],
        copy_bandwidth=2 * given.x.nbytes / blocks.medians(samples[_COPY, "out"]).wall,
        compile_seconds=compile_seconds,
    )


def _has_graphs(case: Case, where: torch.device) -> bool:
    return where.type == "cuda" and case.elements <= _LARGEST_IN_GRAPH


def _called_once(
    contender: Contender, direction: str, given: Inputs, graphs: bool
) -> Iterator[Call]:
    """Yield each call after a first run of it: what it raises or compiles, it does here."""
    eager = []
    for call in calls.of_contender(contender, direction, given):
        call.function()
        eager.append(call)
        yield call
    for call in eager:
        if graphs and calls.can_be_captured(call, direction):
            yield calls.captured(call)


def _copies(given: Inputs, graphs: bool) -> Iterator[Call]:
    copy = calls.of_copy(given)
    yield copy
    if graphs:
        yield calls.captured(copy)


def _figures(
    entry: _Entry,
    case: Case,
    direction: str,
    moved: int,
    samples: dict[tuple[str, str], list[Sample]],
    baseline: str,
    marks: list[str],
) -> dict[str, Any]:
    mode = entry.call.mode
    own = samples[entry.backend, mode]
    theirs = samples.get((baseline, mode)) if entry.backend != baseline else None
    copies = samples[_COPY, "graph" if mode == "graph" else "out"]
    copied = 2 * case.elements * torch.float32.itemsize
    ratios = _ratios(theirs, own) if theirs else None
    interval = ratio.interval(ratios) if ratios else None
    percent = 100 * moved / copied * float(stats.gmean(_ratios(copies, own)))
    median = blocks.medians(own)
    suspicion = _suspicion(case, mode, percent, interval, baseline)
    return row(
        entry.backend,
        baseline,
        case.operation,
        case,
        direction,
        mode=mode,
        via=entry.call.via,
        ratio=interval,
        verdict=ratio.verdict(interval["low"], interval["high"]) if interval else None,
        ratios=ratios and [float(f"{one:.4g}") for one in ratios],
        outliers=ratios and ratio.outliers(ratios),
        ns_per_element=1e9 * median.wall / case.elements,
        cpu_ns_per_element=None if median.cpu is None else 1e9 * median.cpu / case.elements,
        copy_percent=percent,
        marks=marks + [suspicion] * bool(suspicion),
        rounds=len(own),
    )


def _ratios(theirs: Sequence[Sample], own: Sequence[Sample]) -> list[float]:
    return [a.compared / b.compared for a, b in zip(theirs, own, strict=True)]


def _suspicion(
    case: Case, mode: str, percent: float, interval: dict[str, float] | None, baseline: str
) -> str | None:
    """Say that a figure is too good to be true: an operator that does not do all its work, perhaps.

    Of what is bound by memory, which few elements are not, nor what is written where it was read.
    """
    if case.elements < _BOUND_BY_MEMORY or mode == "out":
        return None
    if percent > _MOST_OF_A_COPY:
        return f"suspicious: {percent:.0f} % of a copy's bandwidth"
    # The baseline's share of the copy's bandwidth is this one's over the ratio.
    their_percent = percent / interval["mean"] if interval else 0.0
    if interval and interval["mean"] > _MOST_OVER_BASELINE and their_percent > _BASELINE_IS_FAST:
        return (
            f"suspicious: {interval['mean']:.1f} times as fast as {baseline}, which reaches "
            f"{their_percent:.0f} % of a copy's bandwidth"
        )
    return None


def row(
    backend: str,
    baseline: str,
    operation: str,
    case: Case | None = None,
    direction: str | None = None,
    **figures: Any,
) -> dict[str, Any]:
    """Return a row with every key, None where there is nothing to say."""
    keys = (
        "error mode via ratio verdict ratios outliers ns_per_element cpu_ns_per_element "
        "copy_percent rounds"
    )
    return {
        "backend": backend,
        "baseline": baseline,
        "operation": operation,
        "shape": None,
        "values": None,
        **(case.described() if case else {}),
        "direction": direction,
        **dict.fromkeys(keys.split()),
        "marks": [],
        **figures,
    }
