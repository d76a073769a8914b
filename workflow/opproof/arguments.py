"""The command-line options that stages share."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from opproof import paths, settings
from opproof.errors import UserError
from opproof.settings import Settings

# Names, in the environment of a pipeline's jobs, the settings that its controller froze for them.
FROZEN_CONFIG = "OPPROOF_FROZEN_CONFIG"


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add --config, the settings of the pipeline."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="settings: a YAML file, or a .json that the pipeline froze (config.yaml of this "
        "folder; where there is none, the one that OpProof brings along)",
    )


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add --backend, one name of the settings' backends."""
    parser.add_argument("--backend", required=True, metavar="NAME", help="name of a backend")


def config_file(arguments: argparse.Namespace) -> Path:
    """Return the file that --config names, or else the pipeline's, this folder's, or OpProof's."""
    if arguments.config:
        return arguments.config
    if frozen := os.environ.get(FROZEN_CONFIG):
        return Path(frozen)
    here = Path("config.yaml")
    # A link that leads nowhere is there, too: it is named as a fault.
    return here if os.path.lexists(here) else paths.CONFIG


def are_frozen(arguments: argparse.Namespace) -> bool:
    """Say whether they are settings that a pipeline has frozen for its jobs."""
    return config_file(arguments).suffix == ".json"


def read_settings(arguments: argparse.Namespace) -> Settings:
    """Read `config_file`, and say so where it is OpProof's own, that nobody has named.

    Raises UserError if it is missing or has faults.
    """
    path = config_file(arguments)
    if arguments.config is None and path == paths.CONFIG:
        print(f"no config.yaml in this folder: settings of {path}", file=sys.stderr)
    return _read(path)


def read_ahead(argv: Sequence[str]) -> Settings | None:
    """Read `config_file` for arguments that are not parsed yet.

    Returns None where they ask for help, or where something is wrong: parsing them will tell.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    add_config(parser)
    if {"-h", "--help"} & {*argv}:
        return None
    try:
        return _read(config_file(parser.parse_known_args(argv)[0]))
    except (argparse.ArgumentError, UserError):
        return None


def _read(path: Path) -> Settings:
    if path.suffix == ".json":
        return settings.read(path)
    from opproof import config  # needs jsonschema, which a job's Python may lack

    return config.load(path)
