"""Turns a backend of the settings into the callable that a model uses."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from opproof import library, planned, rules
from opproof.errors import BackendError, UserError
from opproof.settings import Backend

Activation = Callable[[Tensor], Tensor]

# What an operator may raise that is the machine's fault: the job fails, and a retry may mend it.
MACHINE_FAULTS = (UserError, OSError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError)


def resolve(backend: Backend, output: Path) -> Activation:
    """Return the backend's callable, of one floating tensor, loading its library if it has one.

    Raises BackendError where `op` names nothing that can be called, UserError where its code was
    edited after the run was planned, and as library.load does.
    """
    _load_library(backend, output)
    operator = _find(backend.op)
    planned.operator_digest(backend.op)  # now that it is imported
    return operator


def resolve_reference(reference: str) -> Activation:
    """Return the function that a reference names. Raises as `resolve` does."""
    try:
        function = _find(reference)
    except BackendError as error:
        raise BackendError(str(error).replace("op ", "reference ", 1)) from error
    planned.operator_digest(reference)
    return function


def resolve_pooled(backend: Backend, output: Path) -> Activation | None:
    """Return its activation, 2x2 average pool and activation in one; None if it has none.

    Takes and returns [..., height, width], halved. Raises as `resolve` does.
    """
    if backend.pooled is None:
        return None
    _load_library(backend, output)
    return _find(backend.pooled)


def resolve_step(backend: Backend, output: Path, device: torch.device) -> Any:
    """Return the operators train and predict of csrc/lenet_step.cpp, with the backend's activation.

    Raises BackendError where there are none, or none for the device, and as library.load does.
    """
    if backend.step is None:
        raise BackendError("no training step with it for engine kernel")
    if device.type == "cuda":
        library.require_cuda(output, backend.step)
    library.load(output, backend.step)
    return getattr(torch.ops, f"opproof_{backend.step}")


def _load_library(backend: Backend, output: Path) -> None:
    if backend.library:
        library.load(output, backend.library)


def _find(op: str) -> Activation:
    find = _registered if "::" in op else _imported
    try:
        operator = find(op)
    except (Exception, SystemExit) as error:  # importing runs the user's code: it may do anything
        reason = f"op {op}: {type(error).__name__}: {error}"
        raise BackendError(reason.splitlines()[0]) from error
    if not callable(operator):
        raise BackendError(f"op {op}: not callable")
    return operator


def _registered(op: str) -> Activation:
    namespace, _, name = op.partition("::")
    operator = getattr(getattr(torch.ops, namespace), name).default
    rules.complete_users(op)
    return operator


def _imported(op: str) -> Activation:
    module, _, name = op.partition(":")
    # A user's own module lies beside config.yaml, in the folder that the pipeline runs in.
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, folder)
    return getattr(importlib.import_module(module), name)
