"""The train stage: one job trains a block of seeds of one backend and records it in block.json."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from opproof import (
    arguments,
    artifact,
    device,
    engines,
    events,
    lease,
    library,
    mnist,
    planned,
    provenance,
)
from opproof.engines import Engine
from opproof.errors import BackendError, UserError
from opproof.gpu_sampler import GpuSampler
from opproof.lease import Lease
from opproof.settings import Backend, Settings
from opproof.train.progress import Progress
from opproof.train.run import Run, Trainer
from opproof.train.state import RunRecord, RunState
from opproof.train.writer import Writer

# So many of the first seeds have a control: enough to see what rounding does.
_CONTROLS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `opproof train`."""
    arguments.add_config(parser)
    arguments.add_backend(parser)
    parser.add_argument(
        "--block", type=int, default=0, help="which of the settings' blocks of seeds (%(default)s)"
    )


def main(args: argparse.Namespace) -> int:
    """Train the block; return 0, also when a seed fails: that is a finding."""
    settings = arguments.read_settings(args)
    blocks = settings.blocks()
    if not 0 <= args.block < len(blocks):
        raise UserError(f"--block: is {args.block}; allowed: 0 to {len(blocks) - 1}")
    train_block(settings, settings.backend(args.backend), blocks[args.block], args.block)
    return 0


def train_block(settings: Settings, backend: Backend, seeds: tuple[int, ...], block: int) -> None:
    """Train the seeds that are not trained yet and write the block's record, block.json.

    Raises UserError where data, library or device are not as they must be, a file can't be written,
    or another attempt at the block has taken over.
    """
    output = Path(settings.output)
    folder = output / "train" / backend.name / str(block)
    job = lease.take(output, folder)
    record: dict[str, Any] = {
        "backend": backend.name,
        **settings.plan(),
        "not_trained": _refusal(settings, backend),
        "device": None,
        "runs": [],
        "controls": [],
        "measurements": {},
        "provenance": provenance.of_job(),
    }
    if record["not_trained"]:
        print(f"{backend.name} is not trained: {record['not_trained']}")
    else:
        where = device.resolve(settings.device)
        device.set_arithmetic(settings.precision, where)
        # Verification fills fresh memory with NaN, to see any of it; here that would only cost.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        record["device"] = where.type
        try:
            with GpuSampler(where) as sampler:
                record["runs"], record["controls"] = _train(settings, backend, seeds, where, job)
            record["measurements"] = {
                "hardware": device.describe(where),
                "gpu": sampler.summary(),
                "gpu_samples": sampler.samples(),
            }
        except BackendError as error:
            record["not_trained"] = str(error)
    job.check()
    artifact.write_json(folder / "block.json", record)


def _refusal(settings: Settings, backend: Backend) -> str | None:
    """Say why verification keeps this backend from being trained, None if it does not."""
    verdict = artifact.read_json(Path(settings.output) / "verify" / f"{backend.name}.json")
    if verdict["verdict"] == "pass" or verdict["expected"] == "fail":
        return None
    return "refused by verification"


def _train(
    settings: Settings, backend: Backend, seeds: tuple[int, ...], where: torch.device, job: Lease
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the entries of the seeds in the block's record, and of their controls."""
    engine = engines.create(settings.engine, settings, backend, where)
    runs = _train_seeds(settings, backend, seeds, engine, job)
    if backend.name != settings.baseline(backend):
        return runs, []
    # An epoch: after more of them, rounding has carried every run away (see docs/measured/).
    short = dataclasses.replace(settings, train=dataclasses.replace(settings.train, epochs=1))
    of = tuple(seed for seed in seeds if seed in settings.seeds[:_CONTROLS])
    return runs, _train_seeds(short, backend, of, engine, job, are_controls=True)


def _train_seeds(
    settings: Settings,
    backend: Backend,
    seeds: tuple[int, ...],
    engine: Engine,
    job: Lease,
    are_controls: bool = False,
) -> list[dict[str, Any]]:
    """Return the entries of the seeds in the block's record, in their order."""
    output = Path(settings.output)
    labels = torch.from_numpy(mnist.read(Path(settings.data.folder), mnist.TEST_LABELS)).long()
    digest = run_digest(settings, backend, engine.device, are_controls)
    name = f"control of {backend.name}" if are_controls else backend.name
    entries: dict[int, dict[str, Any]] = {}

    def leave(run: Run, record: RunRecord, is_new: bool) -> None:
        job.check()
        if is_new and record.final:
            run.state.save_record(record)
        file = f"{'control' if are_controls else 'seed'}-{run.seed}.npz"
        entry = _publish(run.seed, record, settings.train.batch_size, job.target / file)
        if not are_controls:
            _write_events(settings, backend, record, entry)
        entries[run.seed] = entry

    with Progress(name, len(seeds), settings.train.epochs) as progress, Writer() as writer:
        left = []
        for run in (Run(seed, RunState(output, digest, seed)) for seed in seeds):
            if record := run.state.ended():
                progress.run_done(run.seed, record.failure or "trained before")
                writer.submit(leave, run, record, False)
            else:
                run.state.take_over(job)
                left.append(run)
        trainer = Trainer(engine, settings.train, labels, writer, are_controls)
        for run, record in trainer.train(left, progress):
            progress.run_done(run.seed, record.failure or "trained")
            writer.submit(leave, run, record, True)
    return [entries[seed] for seed in seeds]


def _write_events(
    settings: Settings, backend: Backend, record: RunRecord, entry: dict[str, Any]
) -> None:
    if events.always_written(settings, entry["seed"]):
        block = {"backend": backend.name, **settings.plan()}
        file = events.of_run(settings, block, entry, lambda: record.arrays["loss"])
        if not file.is_there():
            file.write()


def run_digest(
    settings: Settings, backend: Backend, where: torch.device, is_control: bool = False
) -> str:
    """Return what names a run's state: a digest of all that determines the run but the seed.

    Raises UserError where code was edited meanwhile: it would name what another code has trained.
    """
    name = settings.library_of_training(backend)
    built = library.read_record(Path(settings.output), name) if name else None
    return artifact.json_digest(
        {
            # Two backends of one operator, which may be at work at once, are not one run.
            "backend": backend.name,
            "op": backend.op,
            "pooled": backend.pooled,
            "operator": planned.operator_digest(backend.op),
            "library": built and built["sha256"],
            **settings.plan(),
            "control": is_control,
            "device": where.type,
            "torch": torch.__version__,
            "code": planned.stage_digest("train"),
        }
    )[:32]


def _publish(seed: int, record: RunRecord, batch_size: int, path: Path) -> dict[str, Any]:
    """Put the run's arrays beside the block's record and return the run's entry in it."""
    epoch_starts = range(0, len(record.arrays["loss"]), mnist.steps_per_epoch(batch_size))
    epochs = np.split(record.arrays["loss"], epoch_starts[1:])[: len(record.arrays["accuracy"])]
    return {
        "seed": seed,
        "failure": record.failure,
        "average_loss": [float(losses.mean(dtype=np.float64)) for losses in epochs],
        "accuracy": record.arrays["accuracy"].tolist(),
        "file": path.name,
        "sha256": artifact.write_arrays(path, record.arrays),
        "measurements": record.measurements,
    }
