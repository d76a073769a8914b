"""Digests of the code behind a stage: an edit reruns what it can change, and nothing else."""

import ast
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

# Command line, messages, refusals and measurements: an edit there can't change a result.
_WITHOUT_EFFECT = {
    f"opproof.{name}"
    for name in (
        "arguments",
        "driver",
        "errors",
        "event_file",
        "event_format",
        "events",
        "gpu_sampler",
        "lease",
        "on_demand",
        "permissions",
        "planned",
        "provenance",
        "train.progress",
    )
}


def digest(stage: str) -> str:
    """Return the SHA-256, in hex, of a stage's modules and the package's modules they import.

    `stage` may be a module of one, as timing.operators: then only what that imports counts.
    Comments, docstrings and layout do not count.
    """
    modules = [f"opproof.{stage}"]
    modules += [f"opproof.{stage}.{file.stem}" for file in (_PACKAGE / stage).glob("*.py")]
    return _digest(modules, _package_file)


def operator_digest(op: str) -> str | None:
    """Return the SHA-256 of the code of "package.module:function", found without importing.

    With it go the modules that it imports, as far as they are OpProof's or lie in the working
    folder. None where the module itself does neither: it is installed, or registered by a library.
    """
    if "::" in op:
        return None
    module = op.partition(":")[0]
    find = _package_file if module.startswith("opproof.") else _local_file
    if find(module) is None:
        return None
    return _digest(accumulate(module.split("."), "{}.{}".format), find)


def _digest(modules: Iterable[str], find: Callable[[str], Path | None]) -> str:
    """Digest the modules and those that they import, of all that `find` finds a file for."""
    pending, digests = list(modules), {}
    while pending:
        name = pending.pop()
        if name in digests or name in _WITHOUT_EFFECT:
            continue
        if file := find(name):
            digests[name], statements = _read(file.read_bytes())
            pending.extend(_imports(name, file, statements))
    return hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest()


def _package_file(name: str) -> Path | None:
    package, *parts = name.split(".")
    return _module_file(_PACKAGE, parts) if package == "opproof" and parts else None


def _local_file(name: str) -> Path | None:
    return _module_file(Path(), name.split("."))


def _module_file(folder: Path, parts: list[str]) -> Path | None:
    path = folder.joinpath(*parts)
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def _imports(
    name: str, file: Path, statements: tuple[ast.Import | ast.ImportFrom, ...]
) -> Iterator[str]:
    """Yield what the module may import by these statements; objects in modules are among it."""
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    for node in statements:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            parent = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*parent, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


@functools.cache  # a file is part of several stages
def _read(content: bytes) -> tuple[str, tuple[ast.Import | ast.ImportFrom, ...]]:
    """Return the SHA-256 of a syntax tree without docstrings, and its import statements.

    Of what is no Python that of the bytes: it is a user's, and for verification to find.
    """
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return hashlib.sha256(content).hexdigest(), ()
    nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    imports = tuple(node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imports
