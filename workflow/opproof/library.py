"""Loads a library of the build stage and gives its operators fake and autograd rules.

Every library registers three operators in the namespace opproof_{library}:
forward(x), backward(grad, x) and double_backward(grad_grad, grad, x), all of x's shape and dtype.
"""

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from opproof import artifact
from opproof.errors import BackendError, UserError


def record_path(output: Path, name: str) -> Path:
    """Return where the build stage records the library."""
    return output / "build" / name / "build.json"


def read_record(output: Path, name: str) -> dict[str, Any]:
    """Return the build record. Raises UserError if missing, BackendError if compilation failed."""
    record = artifact.read_json(record_path(output, name))
    if record["error"]:
        raise BackendError(f"does not compile: {record['error']}")
    return record


@functools.cache
def load(output: Path, name: str) -> None:
    """Load the library into this process, once.

    Raises BackendError where it did not compile, UserError where it is not the file that was built
    or was built for another torch than the installed one.
    """
    record = read_record(output, name)
    path = record_path(output, name).parent / record["file"]
    if record["torch"] != torch.__version__:
        raise UserError(
            f"{path}: built for torch {record['torch']}, but torch {torch.__version__} is "
            "installed; run the pipeline again to rebuild it"
        )
    if not path.exists() or artifact.file_digest(path) != record["sha256"]:
        raise UserError(
            f"{path}: not the library that was built; delete the folder {path.parent} and run the "
            "pipeline again"
        )
    try:
        torch.ops.load_library(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be loaded: {error.__cause__ or error}") from error
    _register_rules(f"opproof_{name}")


def _register_rules(namespace: str) -> None:
    operators = getattr(torch.ops, namespace)

    # Shape, dtype and strides as of an elementwise ATen call, which is what the kernels return.
    @torch.library.register_fake(f"{namespace}::forward")
    def _(x: Tensor) -> Tensor:
        return x * x

    @torch.library.register_fake(f"{namespace}::backward")
    def _(grad: Tensor, x: Tensor) -> Tensor:
        return grad * x

    @torch.library.register_fake(f"{namespace}::double_backward")
    def _(grad_grad: Tensor, grad: Tensor, x: Tensor) -> Tensor:
        return grad_grad * grad * x

    def save_inputs(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    def forward_rule(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return operators.backward(grad, x)

    def backward_rule(ctx: Any, grad_grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        grad, x = ctx.saved_tensors
        needs_grad, needs_x = ctx.needs_input_grad
        return (
            operators.backward(grad_grad, x) if needs_grad else None,
            operators.double_backward(grad_grad, grad, x) if needs_x else None,
        )

    torch.library.register_autograd(
        f"{namespace}::forward", forward_rule, setup_context=save_inputs
    )
    torch.library.register_autograd(
        f"{namespace}::backward", backward_rule, setup_context=save_inputs
    )
