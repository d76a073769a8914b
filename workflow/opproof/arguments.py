"""The command-line options that stages share."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from opproof import settings
from opproof.errors import UserError
from opproof.settings import Settings

# Names, in the environment of a pipeline's jobs, the settings that its controller froze for them.
FROZEN_CONFIG = "OPPROOF_FROZEN_CONFIG"


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add --config, the settings of the pipeline."""
    parser.add_argument(
        "--config",
        type=Path,
        default=Path(os.environ.get(FROZEN_CONFIG, "config.yaml")),
        metavar="FILE",
        help="settings: a config.yaml, or a .json that the pipeline froze (%(default)s)",
    )


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add --backend, one name of the settings' backends."""
    parser.add_argument("--backend", required=True, metavar="NAME", help="name of a backend")


def are_frozen(arguments: argparse.Namespace) -> bool:
    """Say whether --config names settings that a pipeline has frozen for its jobs."""
    return arguments.config.suffix == ".json"


def read_settings(arguments: argparse.Namespace) -> Settings:
    """Read what --config names. Raises UserError if it is missing or has faults."""
    if are_frozen(arguments):
        return settings.read(arguments.config)
    from opproof import config  # needs jsonschema, which a job's Python may lack

    return config.load(arguments.config)


def read_ahead(argv: Sequence[str]) -> Settings | None:
    """Read what --config names in arguments that are not parsed yet.

    Returns None where they ask for help, or where something is wrong: parsing them will tell.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    add_config(parser)
    if {"-h", "--help"} & {*argv}:
        return None
    try:
        return read_settings(parser.parse_known_args(argv)[0])
    except (argparse.ArgumentError, UserError):
        return None
