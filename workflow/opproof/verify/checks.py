"""The checks that gate: a backend that fails one of them is refused.

Each check returns None, or what is wrong in one line.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch._library.custom_ops import CustomOpDef
from torch._ops import OpOverload

from opproof.operators import MACHINE_FAULTS, Activation
from opproof.verify import accuracy, truth

Registered = OpOverload | CustomOpDef
_Check = Callable[..., str | None]


def _faults_of_operator(check: _Check) -> _Check:
    """Let a check return what the operator raises, in one line: it is somebody's code."""

    @functools.wraps(check)
    def guarded(*arguments: Any) -> str | None:
        try:
            return check(*arguments)
        except MACHINE_FAULTS:
            raise
        except Exception as error:
            return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]

    return guarded


def limit(baseline: dict[str, Any], dtype: torch.dtype, direction: str) -> float:
    """Return the largest absolute error that is allowed: 4 eps, or twice F.gelu's own here."""
    return max(4 * torch.finfo(dtype).eps, 2 * baseline[direction]["max_absolute"])


def close_to_truth(observed: dict[str, Any], direction: str, limit: float) -> str | None:
    """Hold the largest absolute error against the limit."""
    error = observed[direction]["max_absolute"]
    return (
        None if error <= limit else f"the largest absolute error is {error:.3g}, above {limit:.3g}"
    )


def any_layout(
    activation: Activation, dtype: torch.dtype, limits: dict[str, float], device: torch.device
) -> str | None:
    """Hold it to the limits for sizes to 33, all layouts, |x| to 1e4, under a random gradient."""
    generator = torch.Generator().manual_seed(0)
    for x in (*_sizes(dtype, device), *_layouts(dtype, device), _far(dtype, device)):
        grad = 2 * torch.rand(x.shape, generator=generator, dtype=dtype).to(device) - 1
        if fault := _fault_at(activation, x, grad, limits):
            return f"shape {tuple(x.shape)}, strides {x.stride()}: {fault}"
    return None


@_faults_of_operator
def gradcheck(activation: Activation, device: torch.device) -> str | None:
    """Hold the derivative against finite differences, in float64."""
    torch.autograd.gradcheck(activation, (_samples(device),))
    return None


@_faults_of_operator
def gradgradcheck(activation: Activation, device: torch.device) -> str | None:
    """Hold the second derivative against finite differences, in float64."""
    torch.autograd.gradgradcheck(activation, (_samples(device),))
    return None


def opcheck(activation: Registered, device: torch.device) -> str | None:
    """Run torch.library.opcheck on a registered operator, for the layouts a model may pass."""
    for x in _layouts(torch.float32, device):
        if fault := _opcheck_at(activation, x):
            return f"shape {tuple(x.shape)}, strides {x.stride()}: {fault}"
    return None


def is_registered(activation: Activation) -> TypeGuard[Registered]:
    """Say whether it is an operator of the dispatcher, which opcheck is for."""
    return isinstance(activation, Registered)


@_faults_of_operator
def repeatable(activation: Activation, device: torch.device) -> str | None:
    """Compare two evaluations bit by bit."""
    x = torch.linspace(-12, 12, 10_007, device=device)
    first, second = accuracy.evaluate(activation, x), accuracy.evaluate(activation, x)
    for direction in accuracy.DIRECTIONS:
        differing = int((_bits(first[direction]) != _bits(second[direction])).sum())
        if differing:
            return f"{direction}: {differing} of {len(x)} results differ between two calls"
    return None


def _bits(values: Tensor) -> Tensor:
    """View float32 as integers, so that NaN equals NaN and -0.0 does not equal 0.0."""
    return values.contiguous().view(torch.int32)


def _sizes(dtype: torch.dtype, device: torch.device) -> Iterator[Tensor]:
    """Yield vectors of 1 to 33 values: full and broken vector registers."""
    generator = torch.Generator().manual_seed(1)
    for size in range(1, 34):
        yield 3 * torch.randn(size, generator=generator, dtype=dtype).to(device)


def _far(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return values beyond the domain that figures are given for."""
    return torch.tensor(
        [-1e4, -100.0, -20.0, -12.5, 12.5, 20.0, 100.0, 1e4], dtype=dtype, device=device
    )


def _layouts(dtype: torch.dtype, device: torch.device) -> Iterator[Tensor]:
    """Yield what a model may pass: dense, permuted, with gaps, overlapping, scalar and empty."""
    generator = torch.Generator().manual_seed(2)
    images = 3 * torch.randn(2, 3, 4, 5, generator=generator, dtype=dtype).to(device)
    for view in (
        images,
        images.to(memory_format=torch.channels_last),
        images.transpose(1, 3),
        images[..., ::2],
        images[:, :1].expand(2, 3, 4, 5),
        images[0, 0, 0, 0],
        images[:0],
    ):
        yield view.detach()


@_faults_of_operator
def _opcheck_at(activation: Registered, x: Tensor) -> str | None:
    torch.library.opcheck(activation, (x.requires_grad_(),))
    return None


@_faults_of_operator
def _fault_at(
    activation: Activation, x: Tensor, grad: Tensor, limits: dict[str, float]
) -> str | None:
    """Say what is wrong with value or gradient at x, or that x is overwritten."""
    before = x.clone()
    leaf = x.detach().requires_grad_()
    y = activation(leaf)
    if y.shape != x.shape or y.dtype != x.dtype:
        return f"the result is {y.dtype} of shape {tuple(y.shape)}"
    (gradient,) = torch.autograd.grad(y, leaf, grad)
    with torch.no_grad():
        alone = activation(x)
        activation(-x)  # must not change an earlier result
    if not torch.equal(x, before):
        return "the input is overwritten"
    right = {name: torch.from_numpy(value) for name, value in truth.of_tensor(x).items()}
    # Far from zero, where gelu(x) is x, a rounding of x is more than a limit made for [-12, 12].
    rounding = 4 * torch.finfo(x.dtype).eps * x.abs().cpu().double()
    for what, found, expected, limit in (
        ("forward", y, right["forward"], limits["forward"]),
        ("forward without grad", alone, right["forward"], limits["forward"]),
        ("backward", gradient, grad.cpu() * right["backward"], limits["backward"]),
    ):
        error = (found.detach().cpu().double() - expected).abs()
        if not (error <= rounding.clamp(min=limit)).all():
            return f"{what}: the largest absolute error is {error.max():.3g}, above {limit:.3g}"
    return None


def _samples(device: torch.device) -> Tensor:
    x = torch.linspace(-6, 6, 25, dtype=torch.float64, device=device)
    return x.requires_grad_()
