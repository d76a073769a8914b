"""Digests of the code behind a stage: an edit reruns what it can change, and nothing else."""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

# Command line, messages and measurements: an edit there can't change a result.
_WITHOUT_EFFECT = {"arguments", "errors", "events", "provenance", "train.gpu", "train.progress"}


def digest(stage: str) -> str:
    """Return the SHA-256, in hex, of a stage's modules and the package's modules they import.

    Comments, docstrings and layout do not count.
    """
    digests = {name: _meaning(_file(name)) for name in sorted(_closure(stage))}
    return hashlib.sha256(repr(digests).encode()).hexdigest()


def operator_digest(op: str) -> str | None:
    """Return the SHA-256 of the code of "package.module:function", found without importing.

    None where neither OpProof nor the working folder holds the module: it is installed.
    """
    if "::" in op:
        return None
    module = op.partition(":")[0]
    if module.startswith("opproof."):
        return digest(module.removeprefix("opproof."))
    path = Path(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return _meaning_or_bytes(file)
    return None


def _closure(stage: str) -> set[str]:
    """Return the names, within the package, of a stage's modules and all they import."""
    if (_PACKAGE / stage).is_dir():
        pending = [f"{stage}.{file.stem}" for file in (_PACKAGE / stage).glob("*.py")]
    else:
        pending = [stage]
    found: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in found and name not in _WITHOUT_EFFECT:
            found.add(name)
            pending.extend(_imports(_file(name)))
    return found


def _imports(file: Path) -> Iterator[str]:
    """Yield the package's own modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "opproof":
            parent = (node.module or "").partition(".")[2]
            children = [f"{parent}.{alias.name}".lstrip(".") for alias in node.names]
            for name in (parent, *children):
                if name and _file(name).is_file():
                    yield name


def _file(name: str) -> Path:
    path = _PACKAGE.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _meaning_or_bytes(file: Path) -> str:
    """Return the digest of a file's code, of its bytes where that is no Python."""
    try:
        return _meaning(file)
    except (SyntaxError, ValueError):
        return hashlib.sha256(file.read_bytes()).hexdigest()


def _meaning(file: Path) -> str:
    """Return the SHA-256 of a Python file's syntax tree without docstrings."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
