"""Pooled operators (GELU, 2x2 average pool, GELU) that verification must refuse; one is right."""

import torch
from torch import Tensor
from torch.nn import functional as F

from opproof.textbook import gelu


def right(x: Tensor) -> Tensor:
    return F.gelu(F.avg_pool2d(F.gelu(x), 2))


def without_inner(x: Tensor) -> Tensor:
    return F.gelu(F.avg_pool2d(x, 2))


def gradient_unscaled(x: Tensor) -> Tensor:
    """Forget the average's quarter in the gradient."""
    y = right(x)
    return y.detach() + 4 * (y - y.detach())


def odd_sizes_rounded_up(x: Tensor) -> Tensor:
    return F.gelu(F.avg_pool2d(F.gelu(x), 2, ceil_mode=True))


def strides_ignored(x: Tensor) -> Tensor:
    """Take a dense tensor's memory for contiguous."""
    if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return right(x)
    return right(x.permute(0, 2, 3, 1).reshape(x.shape))


def no_empty_batch(x: Tensor) -> Tensor:
    if not x.numel():
        raise ValueError("no images")
    return right(x)


def in_float32(x: Tensor) -> Tensor:
    return right(x.float()).to(x.dtype)


def nan_swallowed(x: Tensor) -> Tensor:
    return right(torch.where(x.isnan(), 0.0, x))


def input_overwritten(x: Tensor) -> Tensor:
    result = right(x.clone())
    x.data.clamp_(min=-2.0)
    return result


def not_twice(x: Tensor) -> Tensor:
    """Be right to the first derivative alone."""
    return Once.apply(x)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return right(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            return torch.autograd.grad(right(x), x, grad)[0]


def noisy(x: Tensor) -> Tensor:
    return right(x) + 1e-7 * torch.rand(()) * (x.dtype == torch.float32)


@torch.library.custom_op("opproof_tests::pooled_contiguous", mutates_args=())
def contiguous(x: Tensor) -> Tensor:
    """Return it contiguous whatever the layout, and say otherwise."""
    return right(x).clone(memory_format=torch.contiguous_format)


@torch.library.register_fake("opproof_tests::pooled_contiguous")
def contiguous_fake(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)


def _gradient(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
    with torch.enable_grad():
        x = ctx.saved_tensors[0]
        return torch.autograd.grad(gelu(F.avg_pool2d(gelu(x), 2)), x, grad, create_graph=True)[0]


contiguous.register_autograd(
    _gradient, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs)
)
