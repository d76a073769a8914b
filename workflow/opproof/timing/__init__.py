"""The timing stage: what operators and training cost, alone on the machine; a sub-command each."""

import argparse
import importlib
from types import ModuleType

# Each kind is a module with add_arguments(parser) and main(arguments) -> exit status, as a stage
# has. Imported by name: an edit of what one rests on is none of the other (codebase.py).
_KINDS = ("operators", "training")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the kinds of `opproof timing`."""
    kinds = parser.add_subparsers(metavar="WHAT", required=True)
    for name in _KINDS:
        module = _module(name)
        summary = (module.__doc__ or "").splitlines()[0]
        kind = kinds.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        module.add_arguments(kind)
        kind.set_defaults(kind=name)


def main(args: argparse.Namespace) -> int:
    """Measure what was asked for; return 0, also when an operator raises: that is a finding."""
    return _module(args.kind).main(args)


def _module(kind: str) -> ModuleType:
    return importlib.import_module(f"opproof.timing.{kind}")
