"""`opproof new`: starts an operator of the user's own in the working folder, by one of the ways."""

import argparse
import keyword
from pathlib import Path

from opproof import artifact
from opproof.backends import BACKENDS, LIBRARIES
from opproof.errors import UserError
from opproof.paths import STARTERS

# Of a way its starter, what the file is called, and what the entry in config.yaml names.
_WAYS = {
    "header": ("header.h", "{name}.h", "header: {name}.h"),
    "sources": ("sources.cpp", "{name}.cpp", 'op: "{name}::forward", sources: [{name}.cpp]'),
    "op": ("op.py", "{name}_op.py", 'op: "{name}_op:{name}"'),
}
_ENTRY = '  - {{name: {name}, {named}, reference: "{name}_reference:{name}"}}'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `opproof new`."""
    parser.add_argument("name", metavar="NAME", help="of the operator: letters, digits and _")
    parser.add_argument(
        "--way",
        choices=_WAYS,
        default="header",
        help="a C++ header of scalar functions, which all kernels are made from; C++ and CUDA "
        "sources that register an operator; or a Python function (%(default)s)",
    )


def main(args: argparse.Namespace) -> int:
    """Write the starter, its reference, its test and, if there is none, a config.yaml; return 0."""
    _require_name(args.name)
    starter, file, named = (part.format(name=args.name) for part in _WAYS[args.way])
    entry = _ENTRY.format(name=args.name, named=named)
    wanted = {
        file: starter,
        f"{args.name}_reference.py": "reference.py",
        f"test_{args.name}.py": "test.py",
    }
    if there := [path for path in wanted if Path(path).exists()]:
        raise UserError(f"{', '.join(there)}: there already; nothing was written")
    has_config = Path("config.yaml").exists()
    if not has_config:
        wanted["config.yaml"] = "config.yaml"
    for path, of in wanted.items():
        text = (
            (STARTERS / of)
            .read_text()
            .replace("OPERATOR_ENTRY", entry)
            .replace("OPERATOR_NAME", args.name)
        )
        artifact.write_bytes(Path(path), text.encode())
        print(f"wrote {path}")
    if has_config:
        print(f"add to backends in config.yaml:\n{entry}")
    print(f"then: python -m opproof verify --backend {args.name}")
    return 0


def _require_name(name: str) -> None:
    if not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name):
        raise UserError(f"{name!r}: no name for an operator; allowed: letters, digits and _")
    if name in {*BACKENDS, *LIBRARIES, "compile"}:
        raise UserError(f"{name!r}: is built in; allowed: another name")
