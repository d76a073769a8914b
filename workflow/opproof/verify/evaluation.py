"""Evaluates an operator and its gradient, and compares results bit by bit."""

import torch
from torch import Tensor

from opproof.operators import Activation

DIRECTIONS = ("forward", "backward")

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def evaluate(
    operator: Activation,
    x: Tensor,
    grad: Tensor | None = None,
    shape: tuple[int, ...] | None = None,
) -> dict[str, Tensor]:
    """Return the operator at x ("forward") and the gradient for x ("backward"), detached.

    x is any floating tensor, the result of its dtype and of the given shape, or else of x's; the
    incoming gradient is `grad`, of the result's shape, or else ones. Raises TypeError where the
    result is no tensor, ValueError where shape or dtype are others.
    """
    x = x.detach().requires_grad_()
    shape = tuple(x.shape) if shape is None else shape
    y = operator(x)
    if not isinstance(y, Tensor):
        raise TypeError(f"returns {type(y).__name__}, not a tensor")
    if y.shape != shape or y.dtype != x.dtype:
        raise ValueError(
            f"returns {y.dtype} of shape {tuple(y.shape)} for {x.dtype} of shape {tuple(x.shape)}"
        )
    (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y) if grad is None else grad)
    return {"forward": y.detach(), "backward": gradient.detach()}


def bits(values: Tensor) -> Tensor:
    """View floats as integers, so that NaN equals NaN and -0.0 does not equal 0.0."""
    return values.contiguous().view(_BITS[values.element_size()])


def difference(
    first: dict[str, Tensor], second: dict[str, Tensor], where: str = "results differ"
) -> str | None:
    """Say how many results of two evaluations are not the same bits, None if none."""
    for direction in DIRECTIONS:
        differing = int((bits(first[direction]) != bits(second[direction])).sum())
        if differing:
            return f"{direction}: {differing} of {first[direction].numel()} {where}"
    return None
