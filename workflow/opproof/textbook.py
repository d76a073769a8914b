"""The textbook GELU in Python: 0.5 x (1 + erf(x / sqrt 2)) as an autograd.Function."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class Gelu(torch.autograd.Function):
    """GELU and its derivative, Phi(x) + x phi(x), composed of torch.erf and torch.exp."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return 0.5 * x * (1.0 + torch.erf(x / math.sqrt(2.0)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        distribution = 0.5 + 0.5 * torch.erf(x / math.sqrt(2.0))
        density = torch.exp(-x * x / 2.0) / math.sqrt(2.0 * math.pi)
        return grad * (distribution + x * density)


def gelu(x: Tensor) -> Tensor:
    """Return the GELU of a floating tensor of any shape; differentiable any number of times."""
    return Gelu.apply(x)


def gelu_tanh(x: Tensor) -> Tensor:
    """Return F.gelu's tanh approximation, off by up to 5e-4: a control, near but not equal."""
    return F.gelu(x, approximate="tanh")
