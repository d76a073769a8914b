"""`opproof tensorboard`: writes the event files that training left out, and serves all of them."""

import argparse
import os
import sys
from pathlib import Path

from opproof import arguments, artifact, events
from opproof.errors import UserError
from opproof.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `opproof tensorboard`."""
    arguments.add_config(parser)
    parser.add_argument("--host", default="localhost", help="address to serve on (%(default)s)")
    parser.add_argument("--port", type=int, default=6006, help="port to serve on (%(default)s)")


def main(args: argparse.Namespace) -> int:
    """Write the missing event files, then become the server."""
    settings = arguments.read_settings(args)
    folder = Path(settings.output) / "tensorboard"
    written = write_missing(settings)
    if not folder.exists():
        raise UserError(f"{settings.output}: no trained run yet; run the pipeline first")
    print(f"{written} event files written; serving {folder}", flush=True)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder)]
    command += ["--host", args.host, "--port", str(args.port)]
    command += ["--samples_per_plugin", "scalars=1000000"]  # every step, not 1,000 of them
    os.execv(sys.executable, command)  # in place of this process: whatever ends it ends the server


def write_missing(settings: Settings) -> int:
    """Write the event files of trained runs that lack theirs; return how many that were."""
    written = 0
    for block in sorted((Path(settings.output) / "train").glob("*/*/block.json")):
        record = artifact.read_json(block)
        for run in record["runs"]:
            folder = events.folder(settings, record["backend"], run["seed"])
            if not events.are_of(folder, run["sha256"]):
                arrays = artifact.read_arrays(block.parent / run["file"], run["sha256"])
                events.write(folder, run["sha256"], arrays["loss"], arrays["accuracy"])
                written += 1
    return written
