"""`python -m opproof STAGE`: one sub-command a stage, the same by hand, in tests and in jobs."""

import argparse
import importlib
import sys

from opproof import __version__, node, permissions, planned
from opproof.errors import UserError

# Each module has add_arguments(parser) and main(arguments) -> exit status. Only the one that is
# asked for is imported: a training job must not need what the summary needs.
STAGES = {
    "new": "start an operator of your own in this folder",
    "data": "get MNIST and check it",
    "build": "compile the C++/CUDA libraries",
    "verify": "hold a backend against the truth",
    "train": "train one block of seeds of a backend",
    "timing": "time the operators alone on the machine",
    "summary": "aggregate what there is into tables and a page",
    "check": "fail unless the results are whole and every verdict is as expected",
    "doctor": "say whether this machine, and its SLURM, are ready for the pipeline",
    "tensorboard": "write the event files of every run and serve them",
    "run": "run the whole pipeline with Snakemake and show the table",
}

# What computes with torch, on a GPU where there is one.
_ON_GPU = ("verify", "train", "timing")


def main(argv: list[str] | None = None) -> int:
    """Run one stage and return the exit status: 0 done, 1 a verdict that fails, 2 a fault."""
    permissions.keep_private()
    argv = sys.argv[1:] if argv is None else argv
    stage = argv[0] if argv and argv[0] in STAGES else None
    try:
        return _run(stage, argv)
    except UserError as error:
        print(f"opproof {stage}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"opproof {stage}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"opproof {stage}: interrupted", file=sys.stderr)
        return 130


def _run(stage: str | None, argv: list[str]) -> int:
    if stage in _ON_GPU:
        node.require_gpu(argv[1:])
    parser = argparse.ArgumentParser(prog="opproof", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"opproof {__version__}")
    commands = parser.add_subparsers(metavar="STAGE", required=True)
    for name, summary in STAGES.items():
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if name == stage:
            module = importlib.import_module(f"opproof.{name}")
            module.add_arguments(command)
            command.set_defaults(main=module.main, stage=stage)
    arguments = parser.parse_args(argv)
    planned.stage_digest(arguments.stage)  # now that its modules are imported
    return arguments.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
