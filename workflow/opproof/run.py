"""`opproof run`: the whole pipeline with Snakemake, and its table, also where nothing was to do."""

import argparse
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
    settings = arguments.read_settings(args)
    started = time.time()
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE)]
    command += ["--cores", args.cores, "--configfile", str(args.config)]
    status = subprocess.run(command, check=False).returncode
    summary = Path(settings.output) / "summary.json"
    # Snakemake's hooks show the table, but only where there was a job.
    if status == 0 and summary.exists() and summary.stat().st_mtime < started:
        subprocess.run(
            [sys.executable, "-m", "opproof", "summary", "--show", "--config", str(args.config)],
            check=False,
        )
    return status
