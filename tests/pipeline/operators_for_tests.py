"""Operators that tests bring as a user does: a module beside config.yaml, named by `op:`."""

import torch
from torch import Tensor
from torch.nn import functional as F

gelu = F.gelu
not_callable = 3
calls = 0


class WrongGradient(torch.autograd.Function):
    """GELU whose derivative lacks the term x phi(x): trains almost as well, and is wrong."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.gelu(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * 0.5 * torch.erfc(-x / 2**0.5)


def wrong_gradient(x: Tensor) -> Tensor:
    return WrongGradient.apply(x)


def nan_for_a_while(x: Tensor) -> Tensor:
    """Return NaN at some of the first seed's steps, and GELU ever after."""
    global calls
    calls += 1
    return F.gelu(x) * (float("nan") if 60 <= calls < 66 else 1.0)


def raises_in_training(x: Tensor) -> Tensor:
    """Raise on what only training passes."""
    if len(x.shape) == 4 and x.shape[0] == 600:
        raise RuntimeError("a batch of 600 is too large")
    return F.gelu(x)
