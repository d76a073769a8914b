"""GELU by the textbook's formula as Triton kernels, forward and backward, for a GPU."""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024


@triton.jit
def _distribution(x):
    return 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def _forward(x_at, y_at, count, block: tl.constexpr, wide: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    x = tl.load(x_at + place, mask=place < count).to(wide)
    tl.store(y_at + place, x * _distribution(x), mask=place < count)


@triton.jit
def _backward(grad_at, x_at, out_at, count, block: tl.constexpr, wide: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    grad = tl.load(grad_at + place, mask=place < count).to(wide)
    x = tl.load(x_at + place, mask=place < count).to(wide)
    density = 0.3989422804014327 * tl.exp(-0.5 * x * x)
    tl.store(out_at + place, grad * (_distribution(x) + x * density), mask=place < count)


def _launch(kernel: Any, *inputs: Tensor) -> Tensor:
    """Return kernel(*inputs) element by element, computed in float32, or in float64 for that."""
    dense = [tensor.contiguous() for tensor in inputs]
    out = torch.empty_like(dense[-1])
    if count := out.numel():
        wide = tl.float64 if out.dtype == torch.float64 else tl.float32
        kernel[(triton.cdiv(count, _BLOCK),)](*dense, out, count, block=_BLOCK, wide=wide)
    return out


class Gelu(torch.autograd.Function):
    """GELU; its derivative is an operator of its own, and so can be differentiated too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _launch(_forward, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return GeluBackward.apply(grad, x)


class GeluBackward(torch.autograd.Function):
    """The gradient of GELU, grad times the derivative at x."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(grad, x)
        return _launch(_backward, grad, x)

    @staticmethod
    def backward(ctx: Any, grad_grad: Tensor) -> tuple[Tensor, Tensor]:
        grad, x = ctx.saved_tensors
        density = torch.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
        return _launch(_backward, grad_grad, x), grad_grad * grad * density * (2.0 - x * x)


def gelu(x: Tensor) -> Tensor:
    """Return the GELU of a floating tensor of any shape on a GPU."""
    if x.device.type != "cuda":
        raise ValueError(f"a Triton kernel is for a GPU, not for a tensor on {x.device}")
    return Gelu.apply(x)
