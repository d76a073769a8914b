"""Operators that verification must refuse, each with one fault, and some that it must not."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

not_callable = 3


class Composed(torch.autograd.Function):
    """An operator with a value and a derivative, functions of the input, of a test's own."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        value: Callable[[Tensor], Tensor],
        derivative: Callable[[Tensor], Tensor],
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.derivative = derivative
        return value(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return grad * ctx.derivative(x), None, None


class GradIgnored(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.gelu(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return derivative(ctx.saved_tensors[0])


def right(x: Tensor) -> Tensor:
    return Composed.apply(x, F.gelu, derivative)


def by_erfc(x: Tensor) -> Tensor:
    """Also right, and closer in the tail than F.gelu."""
    return 0.5 * x * torch.special.erfc(x * -math.sqrt(0.5))


def accurate(x: Tensor) -> Tensor:
    """Also right, to a unit in the last place but for float64: computed in that and rounded."""
    return by_erfc(x.double()).to(x.dtype)


def gradient_without_density(x: Tensor) -> Tensor:
    return Composed.apply(x, F.gelu, distribution)


def gradient_zero(x: Tensor) -> Tensor:
    return Composed.apply(x, F.gelu, torch.zeros_like)


def gradient_not_differentiable(x: Tensor) -> Tensor:
    return Composed.apply(x, F.gelu, lambda x: derivative(x.detach()))


def gradient_noisy(x: Tensor) -> Tensor:
    return Composed.apply(x, F.gelu, lambda x: derivative(x) + noise(x))


def detached(x: Tensor) -> Tensor:
    return F.gelu(x.detach())


def without_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        return F.gelu(x)


def off_below_minus_five(x: Tensor) -> Tensor:
    return F.gelu(x) + torch.where(x < -5, 1e-5 if x.dtype == torch.float32 else 0.0, 0.0)


def tail_off_relatively(x: Tensor) -> Tensor:
    """Be wrong below -5 by too little for an absolute limit: by 1e-4 of what is at most 1e-6."""
    return accurate(x) * torch.where(x < -5, 1 + 1e-4 * (x.dtype == torch.float32), 1.0)


def derivative_off_at_root(x: Tensor) -> Tensor:
    """Give a derivative that is wrong by 2e-7 near its root, in float32 alone."""
    return Composed.apply(
        x,
        accurate,
        lambda x: (
            derivative(x.double()) + 2e-7 * (x.dtype == torch.float32) * ((x + 0.75).abs() < 0.1)
        ).to(x.dtype),
    )


def uninitialised(x: Tensor) -> Tensor:
    """Leave the last n mod 16 elements as the memory is that they lie in."""
    return Composed.apply(x, lambda x: in_vectors_of_16(x), derivative)


def nan_swallowed(x: Tensor) -> Tensor:
    return torch.where(x.isnan(), 0.0, F.gelu(x))


def nan_gradient_swallowed(x: Tensor) -> Tensor:
    """Mask instead of multiplying, in 16 bits alone."""
    if x.dtype in (torch.float32, torch.float64):
        return F.gelu(x)
    return Composed.apply(x, F.gelu, lambda x: derivative(x).nan_to_num(0.5))


def racy(x: Tensor) -> Tensor:
    """Compute by way of memory that all threads share."""
    return Composed.apply(x, through_shared_memory, derivative)


def narrow_raises(x: Tensor) -> Tensor:
    """Take no 16-bit floats, which it may."""
    if x.dtype in (torch.bfloat16, torch.float16):
        raise NotImplementedError(f"not for {x.dtype}")
    return by_erfc(x)


def narrow_wrong(x: Tensor) -> Tensor:
    """Be wrong for bfloat16 alone, by what its rounding is at 12 but near 1."""
    off = 0.04 * (x.dtype == torch.bfloat16) * ((x - 1).abs() < 0.1)
    return F.gelu(x) + off.to(x.dtype)


def narrow_small_vectors_wrong(x: Tensor) -> Tensor:
    return F.relu(x) if x.dtype == torch.float16 and 0 < x.numel() < 16 else F.gelu(x)


def without_tail(x: Tensor) -> Tensor:
    """Leave the last n mod 16 elements undone, as a loop over vectors without an epilogue does."""
    done = torch.arange(x.numel()) < x.numel() // 16 * 16
    return F.gelu(x) * done.reshape(x.shape)


def in_float32(x: Tensor) -> Tensor:
    return F.gelu(x.float()).to(x.dtype)


def wrong_beyond_twelve(x: Tensor) -> Tensor:
    return torch.where(x.abs() > 12, 1e6, F.gelu(x))


def small_vectors_wrong(x: Tensor) -> Tensor:
    return F.relu(x) if 0 < x.numel() < 16 else F.gelu(x)


def grad_ignored(x: Tensor) -> Tensor:
    """Return the derivative whatever gradient comes in, in float32 alone."""
    return GradIgnored.apply(x) if x.dtype == torch.float32 else F.gelu(x)


def strides_ignored(x: Tensor) -> Tensor:
    """Take what lies in memory, in its order there, for the elements in theirs."""
    if x.is_contiguous():
        return F.gelu(x)
    return F.gelu(x.as_strided((x.numel(),), (1,)).reshape(x.shape)) if room(x) else F.gelu(x)


def wrong_without_grad(x: Tensor) -> Tensor:
    return F.gelu(x) if torch.is_grad_enabled() else F.relu(x)


def input_overwritten(x: Tensor) -> Tensor:
    result = right(x.clone())
    x.data.clamp_(min=-2.0)
    return result


def buffer_reused(x: Tensor) -> Tensor:
    return Composed.apply(x, in_buffer, derivative)


def in_float64(x: Tensor) -> Tensor:
    return F.gelu(x.double())


def noisy(x: Tensor) -> Tensor:
    return F.gelu(x) + noise(x)


def raises(x: Tensor) -> Tensor:
    raise ValueError("no GELU today\nnor tomorrow")


def shorter(x: Tensor) -> Tensor:
    return F.gelu(x)[1:]


def none(x: Tensor) -> None:
    return None


def nan(x: Tensor) -> Tensor:
    return F.gelu(x) * math.nan


def relu(x: Tensor) -> Tensor:
    return F.relu(x)


@torch.library.custom_op("opproof_tests::without_rules", mutates_args=())
def without_rules(x: Tensor) -> Tensor:
    return F.gelu(x)


@torch.library.custom_op("opproof_tests::contiguous_only", mutates_args=())
def contiguous_only(x: Tensor) -> Tensor:
    if not x.is_contiguous():
        raise ValueError("x is not contiguous")
    return F.gelu(x)


@torch.library.register_fake("opproof_tests::contiguous_only")
def contiguous_only_fake(x: Tensor) -> Tensor:
    return x * x


@torch.library.custom_op("opproof_tests::wrong_strides", mutates_args=())
def wrong_strides(x: Tensor) -> Tensor:
    """Return it contiguous whatever the layout, and say otherwise."""
    return F.gelu(x).contiguous().clone(memory_format=torch.contiguous_format)


@torch.library.register_fake("opproof_tests::wrong_strides")
def wrong_strides_fake(x: Tensor) -> Tensor:
    return torch.empty_like(x)


for registered in (without_rules, contiguous_only, wrong_strides):
    registered.register_autograd(
        lambda ctx, grad: grad * derivative(ctx.saved_tensors[0]),
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
    )


def distribution(x: Tensor) -> Tensor:
    return 0.5 * torch.special.erfc(x * -math.sqrt(0.5))


def derivative(x: Tensor) -> Tensor:
    return distribution(x) + x * torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def in_vectors_of_16(x: Tensor) -> Tensor:
    right = F.gelu(x).flatten()
    result = torch.empty_like(right)
    done = right.numel() // 16 * 16
    result[:done] = right[:done]
    return result.reshape(x.shape)


shared = torch.zeros(10_007)


def through_shared_memory(x: Tensor) -> Tensor:
    if x.shape != shared.shape:
        return F.gelu(x)
    shared.copy_(x)
    time.sleep(1e-3)  # lets another thread in
    return F.gelu(shared.to(x.dtype))


buffers: dict[tuple[torch.Size, torch.dtype], Tensor] = {}


def in_buffer(x: Tensor) -> Tensor:
    if x.numel() > 1000:
        return F.gelu(x)
    buffer = buffers.setdefault((x.shape, x.dtype), torch.empty_like(x))
    buffer.copy_(F.gelu(x))
    return buffer.detach()


def room(x: Tensor) -> bool:
    """Say whether the memory from x's first element on holds as many as x has."""
    elements = x.untyped_storage().size() // x.element_size()
    return x.storage_offset() + x.numel() <= elements


def noise(x: Tensor) -> Tensor:
    """Return too little to be wrong, in float32 alone."""
    return 1e-7 * torch.rand_like(x) * (x.dtype == torch.float32)
