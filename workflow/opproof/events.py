"""What TensorBoard shows: an event file for each run, for the GPU of each job, for each network.

It names them by their folders, and sorts names character by character: padded numbers make that
the order of backends and seeds.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from opproof import codebase
from opproof.event_file import EventFile
from opproof.settings import Backend, Settings

# Training jobs write the files of this many runs; more curves at once tell a reader nothing.
_ALWAYS_WRITTEN = 30

_MIB = 2**20


def folder(settings: Settings) -> Path:
    """Return the folder of all event files."""
    return Path(settings.output) / "tensorboard"


def always_written(settings: Settings, seed: int) -> bool:
    """Say whether training writes this seed's files: the first seeds, as many for each backend."""
    seeds = max(1, _ALWAYS_WRITTEN // len(settings.backends))
    return seed in settings.seeds[:seeds]


def of_run(
    settings: Settings,
    block: Mapping[str, Any],
    run: Mapping[str, Any],
    loss: Callable[[], np.ndarray],
) -> EventFile:
    """Return the event file BACKEND/seed-SEED of a run: what it was trained with, its curves.

    `block` and `run` are as in block.json; `loss` returns the array of the run's losses [steps].
    """
    name = f"seed-{_padded(run['seed'], max(settings.seeds))}"
    hyperparameters = {
        **{key: block[key] for key in ("backend", "engine", "precision")},
        **block["train"],
        "seed": run["seed"],
    }

    def events() -> Iterator[Any]:
        from opproof import event_format

        yield event_format.hyperparameters(hyperparameters, failed=run["failure"] is not None)
        memory = [held / _MIB for held in run["measurements"]["epoch_peak_memory_bytes"]]
        for tag, description, values in (
            ("Loss/Train", "of each step", loss()),
            ("Loss/Epoch", "the mean of Loss/Train over each epoch", run["average_loss"]),
            ("Accuracy/Test", "after each epoch, in per cent", run["accuracy"]),
            ("Memory/Process", "the most that the job has held by then, in MiB", memory),
        ):
            yield from event_format.scalars(tag, description, enumerate(values, start=1))

    content = {"hyperparameters": hyperparameters, "run": run}
    return EventFile(folder(settings) / block["backend"] / name, content, events)


def of_job(settings: Settings, block: Mapping[str, Any], number: int) -> EventFile | None:
    """Return the event file BACKEND/job-BLOCK of what a job took of its GPU; None without one.

    `block` is as in block.json. These curves are of all the seeds that the job has trained, since
    it was started for the last time.
    """
    samples = block["measurements"].get("gpu_samples")
    if not samples:
        return None
    name = f"job-{_padded(number, len(settings.blocks()) - 1)}"
    started = datetime.fromisoformat(block["provenance"]["started"]).timestamp()

    def events() -> Iterator[Any]:
        from opproof import event_format

        for tag, description, key, unit in (
            ("GPU/Utilisation", "in per cent, by seconds of the job", "utilisation_percent", 1),
            ("GPU/Memory", "in use, in MiB, by seconds of the job", "memory_bytes", _MIB),
        ):
            points = [(sample["seconds"], sample[key]) for sample in samples]
            told = ((second, value / unit) for second, value in points if value is not None)
            yield from event_format.scalars(tag, description, told, started)

    content = {"started": started, "samples": samples}
    return EventFile(folder(settings) / block["backend"] / name, content, events)


def of_network(settings: Settings, backend: Backend) -> EventFile:
    """Return the event file BACKEND/network of LeNet-5's graph with the backend's operator."""
    output = Path(settings.output)
    batch_size = settings.train.batch_size

    def events() -> Iterator[Any]:
        from opproof import event_format, network_graph, operators

        activation = operators.resolve(backend, output)
        pooled = operators.resolve_pooled(backend, output)
        graph = network_graph.network_graph(activation, pooled, batch_size)
        yield event_format.graph(graph)

    content = {
        "op": backend.op,
        "pooled": backend.pooled,
        "batch_size": batch_size,
        "code": [codebase.operator_digest(backend.op), codebase.digest("network_graph")],
    }
    return EventFile(folder(settings) / backend.name / "network", content, events)


def _padded(number: int, largest: int) -> str:
    return f"{number:0{len(str(largest))}}"
