"""Times every backend's operator, and torch.compile's, against its baseline's, in one process.

results/timing/operators.json has

stage            "timing operators"
device           "cpu" or "cuda"; `hardware` is its name, `torch` the version, `threads` of the CPU
                 that were used: one, as in training
method           `rounds`, `block_seconds`, `margin` and `confidence`: see blocks.py and ratio.py
rows             one per backend, case, direction and mode, with
    backend      a name of the settings, a baseline, or "compile", torch.compile's of torch
                 ("compile NAME": of another baseline)
    baseline     what it is timed against: "torch", or what another family's reference is called
    operation    "activation", or "pooled": activation, 2x2 average pool, activation
    shape        of the input, float32; `values`: "normal" or "in [-20, -14]"
    direction    "forward" (without grad), "backward" (the operator's alone) or "both" (through
                 autograd)
    mode         "allocated" (the result is new memory), "out" (it goes into memory that is there;
                 absent where a backend can't) or "graph" (a CUDA graph; up to 1e6 elements)
    via          "operator", or "autograd" where a backend has no backward to call by itself
    ratio        the baseline's time over the backend's in the same mode, above 1 where it is
                 faster: geometric mean (`mean`) and 95 % interval (`low`, `high`) of the rounds; of
                 the time that they had a core; None for the baseline
    ratios       of each round, `outliers` among them, "mild" and "severe", all of which count
    verdict      FASTER, SAME, SLOWER, UNCLEAR, of that row alone
    ns_per_element, cpu_ns_per_element   median; the latter the thread's time, None on a GPU
    copy_percent share of the copy's bandwidth, in the same blocks: of the bytes that must be moved
    marks        what may have disturbed the figures (see disturbance.py), and what is suspicious in
                 them: too good to be true
    rounds       that the figures are of
    error        None, or what the backend raises; then there are no figures
copy             the copy's bandwidth, bytes read and written per second, per case, baseline and
                 direction
skipped          cases that were left out, and why
compile_seconds  that torch.compile took for all cases (its cache on disk makes this differ)
load             the machine's load averages (1, 5, 15 minutes) before and after, and its cores
provenance       where and when
"""

import argparse
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from opproof import arguments, artifact, device, lease, provenance
from opproof.backends import BASELINE
from opproof.errors import BackendError
from opproof.settings import GELU, Backend, Settings, short_name
from opproof.timing import blocks, cases, comparison, contenders, machine, memory, ratio, tables
from opproof.timing.calls import DIRECTIONS
from opproof.timing.cases import Case
from opproof.timing.contenders import COMPILE, Contender


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `opproof timing operators`."""
    arguments.add_config(parser)
    parser.add_argument(
        "--backend",
        nargs="+",
        metavar="NAME",
        help=f"time only these, of the settings' backends and {COMPILE}, against their baselines",
    )
    parser.add_argument(
        "--large", action="store_true", help="also 1e7 and 1e8 elements: takes minutes"
    )


def main(args: argparse.Namespace) -> int:
    """Time the operators, write the record and print its table; return 0."""
    settings = arguments.read_settings(args)
    output = Path(settings.output)
    path = output / "timing" / "operators.json"
    job = lease.take(output, path)
    record = time_operators(settings, args.backend, args.large)
    job.check()
    artifact.write_json(path, record)
    print(tables.as_text(record))
    return 0


def time_operators(settings: Settings, names: list[str] | None, large: bool) -> dict[str, Any]:
    """Return the record; `names` are the backends to time, None for all and torch.compile.

    Raises UserError where the device, a library or a name is not as it must be.
    """
    where = device.resolve(settings.device)
    device.set_arithmetic("fp32", where)
    # Deterministic algorithms have fresh memory filled, as a net for bugs: that would be timed.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    before = os.getloadavg()
    started = provenance.of_job()
    by_operation, rows = _contenders(settings, names)
    copy, skipped, compile_seconds = [], [], 0.0
    plan = cases.plan(where, large, pooled=cases.POOLED in by_operation)
    for number, case in enumerate(plan, 1):
        print(f"{case.operation} {list(case.shape)} ({number} of {len(plan)})", file=sys.stderr)
        if shortage := _shortage(case, where):
            skipped.append({**case.described(), "reason": shortage})
            continue
        torch.compiler.reset()  # else shapes of earlier cases would be tried first in each call
        for entrants, direction in itertools.product(by_operation[case.operation], DIRECTIONS):
            compared = comparison.compare(entrants, case, direction, where)
            rows += compared.rows
            beside = {"baseline": entrants[0].backend, "direction": direction}
            copied = {"bytes_per_second": compared.copy_bandwidth}
            copy.append({**case.described(), **beside, **copied})
            compile_seconds += compared.compile_seconds
    return {
        "stage": "timing operators",
        "device": where.type,
        "hardware": machine.hardware(where),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "method": {
            "rounds": blocks.ROUNDS,
            "block_seconds": blocks.BLOCK,
            "margin": ratio.MARGIN,
            "confidence": ratio.CONFIDENCE,
        },
        "rows": rows,
        "copy": copy,
        "skipped": skipped,
        "compile_seconds": compile_seconds,
        "load": {"before": before, "after": os.getloadavg(), "cores": os.cpu_count()},
        "provenance": started,
    }


def _contenders(
    settings: Settings, names: list[str] | None
) -> tuple[dict[str, list[list[Contender]]], list[dict[str, Any]]]:
    """Return by operation who is compared, the baseline first, and a row for who can't be."""
    wanted = list(dict.fromkeys(names or [*(b.name for b in settings.backends), COMPILE]))
    backends = [settings.backend(name) for name in wanted if name not in (BASELINE, COMPILE)]
    references = [GELU] * (BASELINE in wanted or not backends)
    found: dict[str, list[list[Contender]]] = {cases.ACTIVATION: [], cases.POOLED: []}
    rows = []
    for reference in dict.fromkeys([*references, *(backend.reference for backend in backends)]):
        family = [backend for backend in backends if backend.reference == reference]
        try:
            baseline = contenders.of_reference(reference, _baseline_name(reference, family))
        except BackendError as error:
            name = short_name(reference)
            rows += [_error(one.name, name, cases.ACTIVATION, error) for one in family]
            continue
        others = [backend for backend in family if backend.name != baseline.backend]
        for operation, entrants in _entrants(baseline, others, Path(settings.output), rows):
            if COMPILE in wanted:
                entrants.append(contenders.compiled(entrants[0]))
            found[operation].append(entrants)
    return {operation: groups for operation, groups in found.items() if groups}, rows


def _baseline_name(reference: str, family: list[Backend]) -> str:
    """Return what a family's baseline is called: as the backend that is the reference itself."""
    if reference == GELU:
        return BASELINE
    name = short_name(reference)
    return next((backend.name for backend in family if backend.op == reference), name)


def _entrants(
    baseline: Contender, family: list[Backend], output: Path, rows: list[dict[str, Any]]
) -> Iterator[tuple[str, list[Contender]]]:
    """Yield operation and contenders, the baseline first; add a row for who has an error.

    Pooled only where a backend has it.
    """
    for operation, first, of in (
        (cases.ACTIVATION, baseline, contenders.of_backend),
        (cases.POOLED, contenders.three_operators(baseline), contenders.of_pooled),
    ):
        entrants = [first]
        for backend in family:
            try:
                contender = of(backend, output)
            except BackendError as error:
                rows.append(_error(backend.name, first.backend, operation, error))
            else:
                entrants += [contender] if contender else []
        if operation == cases.ACTIVATION or len(entrants) > 1:
            yield operation, entrants


def _error(backend: str, baseline: str, operation: str, error: BackendError) -> dict[str, Any]:
    return comparison.row(backend, baseline, operation, error=str(error))


def _shortage(case: Case, where: torch.device) -> str | None:
    """Say that a case does not fit into memory, None if it does."""
    left = memory.available(where)
    if case.bytes_needed <= left:
        return None
    return f"needs {case.bytes_needed / 1e9:.1f} GB of memory, {left / 1e9:.1f} GB are available"
