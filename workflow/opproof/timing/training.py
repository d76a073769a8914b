"""Times the training of every backend by every engine, against the textbook's loop.

results/timing/training.json has

stage            "timing training"
device           "cpu" or "cuda"; `hardware` is its name, `torch` the version, `threads` of the CPU
                 that were used: one, as in training
precision        of the settings; `train`: their epochs, batch_size and learning_rate
steps            of a run, in all its epochs: 9,380 of the textbook's
method           `rounds`, `stretch_seconds`, `margin` and `confidence`: see below, and ratio.py
measures         what each measure of the rows means, in a sentence; on a CPU those of a GPU are
                 absent
rows             one per measure and what it is of, with
    measure      a name of `measures`, which ends with its unit; None of an error in all of them
    engine       "reference" (the textbook's loop), "graph" or "kernel"
    backend      a name of the settings, or "torch" (the yardstick, always)
    seeds        that are trained together
    arithmetic   "fp32", "tf32", or "tf32 convolutions", torch's default, of the reference on a GPU;
                 all four are None for event files, which are the same for all
    value        the figure; of several measurements the median, of a ratio the geometric mean
    low, high    95 % interval of a ratio
    verdict      of a ratio: FASTER, SAME, SLOWER, UNCLEAR
    samples      that the value is of
    error        None, or what was raised; then there are no figures
marks            what may have disturbed the figures: see disturbance.py
skipped          engine, backend and reason of what was left out
load             the machine's load averages (1, 5, 15 minutes) before and after, and its cores
provenance       where and when

All are trained in one process, in rounds: a stretch of steps of each, in the order of a Latin
square (see blocks.py), after what happens once, as capturing. Time is by the clock, until the
losses are on the CPU. A ratio is taken within a round: of the time that there was a core.
"""

import argparse
import dataclasses
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from opproof import arguments, artifact, device, events, lease, mnist, provenance
from opproof.backends import BASELINE
from opproof.operators import MACHINE_FAULTS
from opproof.settings import Settings
from opproof.timing import blocks, machine, ratio, startup, trainees, training_tables
from opproof.timing.blocks import Sample
from opproof.timing.disturbance import Watch
from opproof.timing.trainees import Kind, Trainee

ROUNDS = 15

# Evaluations, start-ups and event files are timed so often, and less often what takes longer.
_REPEATS = 3
_LONG = 0.5  # seconds

_MEASURES = {
    "step_seconds": (
        "Time of a step of all the seeds that are trained together, after capture: median of the "
        "rounds."
    ),
    "run_seconds": (
        "Time of the {steps:,} steps of a run, or of all that are trained together, from the "
        "median step; without start-up, capture, evaluation and event files."
    ),
    "runs_per_minute": "Runs that are trained in a minute by one process, counted as above.",
    "ratio_to_reference": (
        "Time of a run by the reference loop, of torch in the same precision, over the time of a "
        "run here, seeds that are trained together sharing it: above 1 where it is faster; "
        "geometric mean of the rounds, in each of which all are timed, and 95 % interval."
    ),
    "evaluation_seconds": (
        "Time of predicting the 10,000 test images once, for each of the seeds; a run does it "
        "after every epoch."
    ),
    "start_up_seconds": (
        "Time from the start of a process to its first finished step of one seed, with imports, "
        "data, libraries and capture, its files being in the machine's cache."
    ),
    "event_files_seconds": (
        "Time of writing the TensorBoard event file of a run; training writes it beside what goes "
        "on."
    ),
}
_MEASURES_OF_A_GPU = {
    "kernels_per_step": (
        "Kernels that a step launches, without copies and fills, counted by torch's profiler."
    ),
    "launch_gap_percent": (
        "Share of the step's time in which no kernel runs: the kernels' time by the profiler, "
        "against the time of a step without it."
    ),
    "peak_memory_bytes": (
        "Most memory that torch has allocated at once for the engine, its data, steps and one "
        "evaluation; without what CUDA and its libraries take."
    ),
    "gpu_utilisation_percent": (
        "Share of time in which a kernel was running, as the driver (NVML) samples it while steps "
        "follow one another."
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `opproof timing training`."""
    arguments.add_config(parser)
    parser.add_argument(
        "--backend",
        nargs="+",
        metavar="NAME",
        help="time only these of the settings' backends; torch is always there",
    )


def main(args: argparse.Namespace) -> int:
    """Time the training, write the record and print its table; return 0."""
    settings = arguments.read_settings(args)
    output = Path(settings.output)
    path = output / "timing" / "training.json"
    job = lease.take(output, path)
    record = time_training(settings, args.backend)
    job.check()
    artifact.write_json(path, record)
    print(training_tables.as_text(record))
    return 0


def time_training(settings: Settings, names: Sequence[str] | None) -> dict[str, Any]:
    """Return the record; `names` are the backends to time, None for all.

    Raises UserError where the device, the data, a library or a name is not as it must be.
    """
    where = device.resolve(settings.device)
    device.set_arithmetic(settings.precision, where)
    # As in training: deterministic algorithms would have fresh memory filled, as a net for bugs.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    before = os.getloadavg()
    started = provenance.of_job()
    watch = Watch(where)
    kinds, skipped = trainees.plan(
        settings, names or [backend.name for backend in settings.backends], where
    )
    steps = settings.train.epochs * mnist.steps_per_epoch(settings.train.batch_size)
    rows = [
        *_of_trainees(kinds, settings, where, steps),
        *_of_start_up(kinds, settings),
        *_of_event_files(settings, steps),
    ]
    measures = _MEASURES | (_MEASURES_OF_A_GPU if where.type == "cuda" else {})
    return {
        "stage": "timing training",
        "device": where.type,
        "hardware": machine.hardware(where),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": settings.precision,
        "train": dataclasses.asdict(settings.train),
        "steps": steps,
        "method": {
            "rounds": ROUNDS,
            "stretch_seconds": trainees.STRETCH,
            "margin": ratio.MARGIN,
            "confidence": ratio.CONFIDENCE,
        },
        "measures": {name: text.format(steps=steps) for name, text in measures.items()},
        "rows": rows,
        "marks": watch.marks(),
        "skipped": skipped,
        "load": {"before": before, "after": os.getloadavg(), "cores": os.cpu_count()},
        "provenance": started,
    }


def row(measure: str | None, kind: Kind | None, **figures: Any) -> dict[str, Any]:
    """Return a row with every key, None where there is nothing to say."""
    keys = "value low high verdict samples error"
    of = trainees.described(kind)
    return {"measure": measure, **of, **dict.fromkeys(keys.split()), **figures}


def _of_trainees(
    kinds: Sequence[Kind], settings: Settings, where: torch.device, steps: int
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all that is measured in this process."""
    at_work = []
    for number, kind in enumerate(kinds, 1):
        what = f"{kind.engine}, {kind.backend}, seeds: {kind.seeds}, {kind.arithmetic}"
        print(f"{what} ({number} of {len(kinds)})", file=sys.stderr)
        try:
            at_work.append(Trainee(kind, settings, where))
        except MACHINE_FAULTS:
            raise
        except Exception as error:  # somebody's code: what it raises is a finding about it
            yield row(None, kind, error=blocks.worded(error))
    print(f"{ROUNDS} rounds", file=sys.stderr)
    outcomes = blocks.measure([trainee.stretch for trainee in at_work], where, ROUNDS)
    yardstick = Kind(trainees.REFERENCE, BASELINE, 1, settings.precision)
    samples: dict[Kind, list[Sample]] = {}
    for trainee, outcome in zip(at_work, outcomes, strict=True):
        if isinstance(outcome, Exception):
            yield row(None, trainee.kind, error=blocks.worded(outcome))
        else:
            samples[trainee.kind] = [sample.per(trainee.steps) for sample in outcome]
    for trainee in at_work:
        if own := samples.get(trainee.kind):
            print(f"{trainee.kind.engine}, {trainee.kind.backend} alone", file=sys.stderr)
            yield from _of_steps(trainee.kind, own, samples.get(yardstick), steps)
            yield from _alone(trainee, statistics.median(s.wall for s in own), where)


def _of_steps(
    kind: Kind, own: list[Sample], theirs: list[Sample] | None, steps: int
) -> Iterator[dict[str, Any]]:
    """Yield what follows from the times of steps; `theirs` are the yardstick's."""
    step = blocks.medians(own).wall
    yield row("step_seconds", kind, value=step, samples=len(own))
    run = step * steps
    yield row("run_seconds", kind, value=run, samples=len(own))
    yield row("runs_per_minute", kind, value=60 * kind.seeds / run, samples=len(own))
    if theirs is not None and theirs is not own:
        ratios = [kind.seeds * a.compared / b.compared for a, b in zip(theirs, own, strict=True)]
        interval = ratio.interval(ratios)
        yield row(
            "ratio_to_reference",
            kind,
            value=interval.pop("mean"),
            **interval,
            verdict=ratio.verdict(**interval),
            samples=len(ratios),
        )


def _alone(trainee: Trainee, step: float, where: torch.device) -> Iterator[dict[str, Any]]:
    """Yield what is measured of one after the other; `step` are the seconds that one takes."""
    kind = trainee.kind
    # One of many seeds takes as many times as long on a CPU, and tells nothing else.
    if kind.seeds == 1 or where.type == "cuda":
        yield _median("evaluation_seconds", kind, lambda: _seconds(trainee.predict))
    if where.type != "cuda":
        return
    from opproof.timing import gpu  # needs pynvml

    yield row("peak_memory_bytes", kind, value=trainee.peak_memory, samples=1)
    profiled = min(gpu.PROFILED_STEPS, trainee.at_once)
    found = gpu.kernels(lambda: trainee.train(profiled))
    if found is not None:
        yield row("kernels_per_step", kind, value=found.count / profiled, samples=1)
        gap = 100 * (1 - found.seconds / profiled / step)
        yield row("launch_gap_percent", kind, value=gap, samples=1)
    used = gpu.utilisation(trainee.stretch, where)
    if used is not None:
        yield row("gpu_utilisation_percent", kind, value=used, samples=1)


def _of_start_up(kinds: Sequence[Kind], settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield a row per engine, of the first backend that it is timed with."""
    for engine in trainees.ENGINES:
        kind = next((kind for kind in kinds if kind.engine == engine), None)
        if kind is not None:
            print(f"start-up of {engine}", file=sys.stderr)
            started = partial(startup.seconds, settings, engine, kind.backend)
            yield _median("start_up_seconds", kind, started, at_least=_REPEATS)


def _of_event_files(settings: Settings, steps: int) -> Iterator[dict[str, Any]]:
    """Yield one row."""
    loss = np.random.default_rng(0).random(steps, dtype=np.float32)
    of_epochs = [1.0] * settings.train.epochs
    run = {
        "seed": settings.seeds[0],
        "failure": None,
        "average_loss": of_epochs,
        "accuracy": of_epochs,
        "measurements": {"epoch_peak_memory_bytes": of_epochs},
    }
    folder = artifact.temporary(Path(settings.output) / "timing" / "training.json")
    elsewhere = dataclasses.replace(settings, output=str(folder))
    block = {"backend": BASELINE, **settings.plan()}
    file = events.of_run(elsewhere, block, run, lambda: loss)
    try:
        # The first time it imports TensorBoard.
        yield _median("event_files_seconds", None, lambda: _seconds(file.write), untimed=1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _median(
    measure: str,
    kind: Kind | None,
    seconds: Callable[[], float],
    untimed: int = 0,
    at_least: int = 1,
) -> dict[str, Any]:
    """Return a row of several measurements of `seconds`; fewer of what takes long."""
    found: list[float] = []
    try:
        for _ in range(untimed):
            seconds()
        while len(found) < at_least or (len(found) < _REPEATS and sum(found) < _LONG):
            found.append(seconds())
    except MACHINE_FAULTS:
        raise
    except Exception as error:  # as above
        return row(measure, kind, error=blocks.worded(error))
    return row(measure, kind, value=statistics.median(found), samples=len(found))


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
