"""`opproof run`: the whole pipeline with Snakemake, and its table, also where nothing was to do."""

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

from opproof import arguments
from opproof.paths import SNAKEFILE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `opproof run`."""
    arguments.add_config(parser)
    parser.add_argument("--cores", default="all", help="jobs that run at once (%(default)s)")


def main(args: argparse.Namespace) -> int:
    """Run Snakemake on the configuration and return its exit status."""
    settings, config = arguments.read_settings(args), str(arguments.config_file(args))
    started = time.time()
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE)]
    command += ["--cores", args.cores, "--configfile", config]
    status = _run_to_its_end(command)
    summary = Path(settings.output) / "summary.json"
    # Snakemake's hooks show the table, but only where there was a job.
    if status == 0 and summary.exists() and summary.stat().st_mtime < started:
        subprocess.run(
            [sys.executable, "-m", "opproof", "summary", "--show", "--config", config],
            check=False,
        )
    return status


def _run_to_its_end(command: list[str]) -> int:
    """Run a command and return its exit status; what is to end this process lets it end first."""
    with subprocess.Popen(command) as process:
        # Ctrl-C reaches the command too, from the terminal: it ends its jobs and frees the folder.
        signal.signal(signal.SIGINT, lambda number, frame: None)
        signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
        return process.wait()
