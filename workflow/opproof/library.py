"""Loads a library of the build stage and completes its operators.

Every library of OpProof's own of an activation registers, in the namespace opproof_{library},
forward(x), backward(grad, x) and double_backward(grad_grad, grad, x), all of x's shape and dtype.
Those that are compiled for a header have more: elementwise.cpp and pooled.cpp in csrc/ say which.
Those of lenet_step.cpp have its operators alone, which need no completion.
"""

import functools
from pathlib import Path
from typing import Any

import torch

from opproof import artifact, permissions, rules
from opproof.errors import BackendError, UserError

# The SHA-256 of the libraries that this process has loaded, by name: it can't load another build of
# one, since torch ends a process that registers an operator twice.
_LOADED: dict[str, str] = {}


def record_path(output: Path, name: str) -> Path:
    """Return where the build stage records the library."""
    return output / "build" / name / "build.json"


def read_record(output: Path, name: str) -> dict[str, Any]:
    """Return the build record. Raises UserError if missing, BackendError if compilation failed."""
    record = artifact.read_json(record_path(output, name))
    if record["error"]:
        raise BackendError(f"cannot be built: {record['error']}")
    return record


def require_cuda(output: Path, name: str) -> None:
    """Raise BackendError, saying why, where the library has CUDA sources that were left out."""
    record = read_record(output, name)
    has_sources = any(source.endswith(".cu") for source in record["sources"])
    if has_sources and not record["cuda"]["built"]:
        raise BackendError(f"was built without CUDA: {record['cuda']['reason']}")


def require_closed(output: Path, name: str) -> None:
    """Raise UserError where everybody may write the library, or what will be it."""
    folder = record_path(output, name).parent
    permissions.require_closed(output, folder.parent, folder, *folder.glob("*"))


@functools.cache
def load(output: Path, name: str) -> None:
    """Load the library into this process, once.

    Raises BackendError where it did not compile, UserError where it is not the file that was built,
    everybody may write it, was built for another torch than the installed one, unless by the stable
    ABI, or where this process has loaded another build of it.
    """
    require_closed(output, name)
    record = read_record(output, name)
    path = record_path(output, name).parent / record["file"]
    if record["torch"] != torch.__version__ and not record["stable_abi"]:
        raise UserError(
            f"{path}: built for torch {record['torch']}, but torch {torch.__version__} is "
            "installed; run the pipeline again to rebuild it"
        )
    if not path.exists() or artifact.file_digest(path) != record["sha256"]:
        raise UserError(
            f"{path}: not the library that was built; delete the folder {path.parent} and run the "
            "pipeline again"
        )
    if name in _LOADED:
        if _LOADED[name] == record["sha256"]:
            return
        raise UserError(f"{path}: this process has loaded another build of it; use a new process")
    try:
        torch.ops.load_library(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be loaded: {error.__cause__ or error}") from error
    _LOADED[name] = record["sha256"]
    namespace = f"opproof_{name}"
    if not hasattr(getattr(torch.ops, namespace), "forward"):
        return  # a user's, or one of lenet_step.cpp
    if record["stable_abi"]:
        rules.complete_elementwise(namespace, rules.like_x)
        rules.complete_out(namespace)
        rules.complete_pooled(namespace)
    else:
        rules.complete_elementwise(namespace, rules.like_product)
