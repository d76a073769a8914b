"""Times every backend's operator, and torch.compile's, against torch's, in one process.

results/timing/operators.json has

stage            "timing operators"
device           "cpu" or "cuda"; `hardware` is its name, `torch` the version, `threads` of the CPU
                 that were used: one, as in training
method           `rounds`, `block_seconds`, `margin` and `confidence`: see blocks.py and ratio.py
rows             one per backend, case, direction and mode, with
    backend      a name of the settings, "torch" (the baseline, always) or "compile"
    operation    "activation", or "pooled": activation, 2x2 average pool, activation
    shape        of the input, float32; `values`: "normal" or "in [-20, -14]"
    direction    "forward" (without grad), "backward" (the operator's alone) or "both" (through
                 autograd)
    mode         "allocated" (the result is new memory), "out" (it goes into memory that is there;
                 absent where a backend can't) or "graph" (a CUDA graph; up to 1e6 elements)
    via          "operator", or "autograd" where a backend has no backward to call by itself
    ratio        torch's time over the backend's in the same mode, above 1 where it is faster:
                 geometric mean (`mean`) and 95 % interval (`low`, `high`) of the rounds; of
                 the time that they had a core; None for torch
    ratios       of each round, `outliers` among them, "mild" and "severe", all of which count
    verdict      FASTER, SAME, SLOWER, UNCLEAR, of that row alone
    ns_per_element, cpu_ns_per_element   median; the latter the thread's time, None on a GPU
    copy_percent share of the copy's bandwidth, in the same blocks: of the bytes that must be moved
    marks        what may have disturbed the figures (see disturbance.py), and what is suspicious in
                 them: too good to be true
    rounds       that the figures are of
    error        None, or what the backend raises; then there are no figures
copy             the copy's bandwidth, bytes read and written per second, per case and direction
skipped          cases that were left out, and why
compile_seconds  that torch.compile took for all cases (its cache on disk makes this differ)
load             the machine's load averages (1, 5, 15 minutes) before and after, and its cores
provenance       where and when
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import torch

from opproof import arguments, artifact, device, lease, provenance
from opproof.backends import BASELINE
from opproof.errors import BackendError
from opproof.settings import Settings
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
        help=f"time only these, of the settings' backends and {COMPILE}; torch is always there",
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
        if COMPILE in (contender.backend for contender in by_operation[case.operation]):
            torch.compiler.reset()  # else shapes of earlier cases would be tried first in each call
        for direction in DIRECTIONS:
            compared = comparison.compare(by_operation[case.operation], case, direction, where)
            rows += compared.rows
            bandwidth = {"direction": direction, "bytes_per_second": compared.copy_bandwidth}
            copy.append({**case.described(), **bandwidth})
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
) -> tuple[dict[str, list[Contender]], list[dict[str, Any]]]:
    """Return by operation who takes part, the baseline first, and a row for who can't."""
    output = Path(settings.output)
    wanted = names or [*(backend.name for backend in settings.backends), COMPILE]
    found = {
        cases.ACTIVATION: [contenders.baseline(pooled=False)],
        cases.POOLED: [contenders.baseline(pooled=True)],
    }
    rows = []
    for name in dict.fromkeys(wanted):
        if name in (BASELINE, COMPILE):
            continue
        backend = settings.backend(name)
        for operation, of in (
            (cases.ACTIVATION, contenders.of_backend),
            (cases.POOLED, contenders.of_pooled),
        ):
            try:
                contender = of(backend, output)
            except BackendError as error:
                rows.append(comparison.row(name, operation, error=str(error)))
            else:
                found[operation] += [contender] if contender else []
    if len(found[cases.POOLED]) == 1:
        del found[cases.POOLED]
    if COMPILE in wanted:
        for operation, entrants in found.items():
            entrants.append(contenders.compiled(pooled=operation == cases.POOLED))
    return found, rows


def _shortage(case: Case, where: torch.device) -> str | None:
    """Say that a case does not fit into memory, None if it does."""
    left = memory.available(where)
    if case.bytes_needed <= left:
        return None
    return f"needs {case.bytes_needed / 1e9:.1f} GB of memory, {left / 1e9:.1f} GB are available"
