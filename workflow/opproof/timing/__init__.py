"""The timing stage: what operators cost, measured alone on the machine, one sub-command a kind."""

import argparse

from opproof.timing import operators

# Each kind has add_arguments(parser) and main(arguments) -> exit status, as a stage has.
_KINDS = {"operators": operators}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the kinds of `opproof timing`."""
    kinds = parser.add_subparsers(metavar="WHAT", required=True)
    for name, module in _KINDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        kind = kinds.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        module.add_arguments(kind)
        kind.set_defaults(kind=name)


def main(args: argparse.Namespace) -> int:
    """Measure what was asked for; return 0, also when an operator raises: that is a finding."""
    return _KINDS[args.kind].main(args)
