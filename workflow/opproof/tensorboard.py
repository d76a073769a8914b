"""`opproof tensorboard`: writes the event files that training left out, and serves all of them."""

import argparse
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from opproof import arguments, artifact, events
from opproof.errors import UserError
from opproof.event_file import EventFile
from opproof.settings import Backend, Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `opproof tensorboard`."""
    arguments.add_config(parser)
    parser.add_argument("--host", default="localhost", help="address to serve on (%(default)s)")
    parser.add_argument("--port", type=int, default=6006, help="port to serve on (%(default)s)")


def main(args: argparse.Namespace) -> int:
    """Write the missing event files, then become the server."""
    settings = arguments.read_settings(args)
    folder = events.folder(settings)
    written = write_missing(settings)
    if not folder.exists():
        raise UserError(f"{settings.output}: no trained run yet; run the pipeline first")
    print(f"{written} event files written; serving {folder}", flush=True)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder)]
    command += ["--host", args.host, "--port", str(args.port)]
    command += ["--samples_per_plugin", "scalars=1000000"]  # every step, not 1,000 of them
    os.execv(sys.executable, command)  # in place of this process: whatever ends it ends the server


def write_missing(settings: Settings) -> int:
    """Write the event files of trained blocks that are not there; return how many that were.

    Prints a line for a network that can't be drawn.
    """
    written = 0
    for backend in settings.backends:
        files = [*_of_blocks(settings, backend)]
        for file in files:
            if not file.is_there():
                file.write()
                written += 1
        if files:
            written += _draw(settings, backend)
    return written


def _of_blocks(settings: Settings, backend: Backend) -> Iterator[EventFile]:
    """Yield what is to be shown of the runs and jobs of a backend, as far as they are trained."""
    for number in range(len(settings.blocks())):
        folder = Path(settings.output) / "train" / backend.name / str(number)
        if not (folder / "block.json").exists():
            continue
        block = artifact.read_json(folder / "block.json")
        for run in block["runs"]:
            loss = partial(_loss, folder / run["file"], run["sha256"])
            yield events.of_run(settings, block, run, loss)
        if job := events.of_job(settings, block, number):
            yield job


def _loss(arrays: Path, digest: str) -> np.ndarray:
    return artifact.read_arrays(arrays, digest)["loss"]


def _draw(settings: Settings, backend: Backend) -> int:
    """Write the graph of the network unless it is there; return how many files were written."""
    network = events.of_network(settings, backend)
    if network.is_there():
        return 0
    try:
        network.write()
    except Exception as error:  # somebody's code: it may raise anything, and hides no curve
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        print(f"{backend.name}: its network is not drawn: {reason}", flush=True)
        return 0
    return 1
