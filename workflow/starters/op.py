"""OPERATOR_NAME: here SiLU. Put your own in its place: any callable of one tensor."""

from typing import Any

import torch
from torch import Tensor


class Function(torch.autograd.Function):
    """SiLU, x s(x) with s(x) = 1 / (1 + e^-x), and its derivative, s(x) + x s(x) s(-x)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return grad * (s + x * s * torch.sigmoid(-x))


def OPERATOR_NAME(x: Tensor) -> Tensor:
    """Return the activation of a floating tensor, of any shape, element by element."""
    return Function.apply(x)
