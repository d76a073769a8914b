"""`python -m opproof STAGE`: one sub-command a stage, the same by hand, in tests and in jobs."""

import argparse
import importlib
import sys

from opproof import __version__
from opproof.errors import UserError

# Each module has add_arguments(parser) and main(arguments) -> exit status. Only the one that is
# asked for is imported: a training job must not need what the summary needs.
STAGES = {
    "data": "get MNIST and check it",
    "build": "compile the C++/CUDA libraries",
    "verify": "hold a backend against the truth",
    "train": "train one block of seeds of a backend",
    "timing": "time the operators alone on the machine",
    "summary": "aggregate what there is into tables and a page",
    "check": "fail unless the results are whole and every verdict is as expected",
    "tensorboard": "write the event files of every run and serve them",
    "run": "run the whole pipeline with Snakemake and show the table",
}


def main(argv: list[str] | None = None) -> int:
    """Run one stage and return the exit status: 0 done, 1 a verdict that fails, 2 a fault."""
    argv = sys.argv[1:] if argv is None else argv
    stage = argv[0] if argv and argv[0] in STAGES else None
    parser = argparse.ArgumentParser(prog="opproof", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"opproof {__version__}")
    commands = parser.add_subparsers(metavar="STAGE", required=True)
    for name, summary in STAGES.items():
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if name == stage:
            module = importlib.import_module(f"opproof.{name}")
            module.add_arguments(command)
            command.set_defaults(main=module.main)
    arguments = parser.parse_args(argv)
    try:
        return arguments.main(arguments)
    except UserError as error:
        print(f"opproof {stage}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"opproof {stage}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"opproof {stage}: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
