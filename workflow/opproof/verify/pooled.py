"""The gates of an operator that is activation, 2x2 average pool and activation in one."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from opproof.operators import Activation
from opproof.verify import gpu, inputs, registered, repeat
from opproof.verify.checks import allowed, fault_of
from opproof.verify.evaluation import DIRECTIONS, evaluate
from opproof.verify.outcome import gate
from opproof.verify.yardstick import Yardstick

_DTYPES = (torch.float32, torch.float64)


def gates(
    operator: Activation,
    yardstick: Yardstick,
    dtypes: tuple[torch.dtype, ...],
    device: torch.device,
) -> Iterator[tuple[str, str | None]]:
    """Yield each gate's name, and what is wrong or None; `dtypes` are those for opcheck."""
    for direction in DIRECTIONS:
        yield f"pooled {direction}", close_to_truth(operator, yardstick, direction, device)
    yield "pooled gradcheck", _gradcheck(operator, device)
    yield "pooled gradgradcheck", _gradgradcheck(operator, device)
    if registered.is_registered(operator):
        planes = (x for dtype in dtypes for x in inputs.planes(dtype, device))
        yield "pooled opcheck", registered.opcheck(operator, planes)
    x = _image(torch.float32, device)
    shape = pooled_shape(x)
    yield "pooled repeatable", repeat.repeatable(operator, x, shape)
    if device.type == "cuda":
        yield "pooled device", gpu.stays_on_device(operator, x, shape)
        yield "pooled side stream", gpu.side_stream(operator, x, shape)
        yield "pooled CUDA graph", gpu.cuda_graph(operator, x, shape)


def pooled_shape(x: Tensor) -> tuple[int, ...]:
    """Return the shape of x [..., H, W] pooled: an odd last row or column is left out."""
    return (*x.shape[:-2], x.shape[-2] // 2, x.shape[-1] // 2)


def close_to_truth(
    operator: Activation, yardstick: Yardstick, direction: str, device: torch.device
) -> str | None:
    """Hold one direction to 4 eps or twice the error of the yardstick's composition, whatever x."""
    for dtype in _DTYPES:
        everything: list[Tensor] = [_image(dtype, device), *inputs.planes(dtype, device)]
        generator = torch.Generator().manual_seed(0)
        grads = [inputs.gradient(x.new_empty(pooled_shape(x)), generator) for x in everything]
        expected = [
            yardstick.truth.pooled(x, grad) for x, grad in zip(everything, grads, strict=True)
        ]
        own = largest = 0.0
        for x, grad, right in zip(everything, grads, expected, strict=True):
            found = evaluate(yardstick.pooled, x, grad, pooled_shape(x))[direction]
            if found.numel():
                own = max(own, (found.cpu().double() - right[direction]).abs().max().item())
                largest = max(largest, right[direction].abs().max().item())
        limit = allowed(own, largest, dtype, yardstick.truth)
        for x, grad, right in zip(everything, grads, expected, strict=True):
            if fault := _fault_at(operator, x, grad, right, direction, limit):
                return f"{dtype}, shape {tuple(x.shape)}, strides {x.stride()}: {fault}"
        if fault := _nan_fault(operator, dtype, device, direction):
            return fault
    return None


@gate
def _fault_at(
    operator: Activation,
    x: Tensor,
    grad: Tensor,
    right: dict[str, Tensor],
    direction: str,
    limit: float,
) -> str | None:
    before = x.clone()
    found = evaluate(operator, x, grad, pooled_shape(x))
    if not torch.equal(x, before):
        return "the input is overwritten"
    return fault_of(found[direction], right[direction], limit, limit)


@gate
def _nan_fault(
    operator: Activation, dtype: torch.dtype, device: torch.device, direction: str
) -> str | None:
    """Let a NaN through to its own window, whose results and gradients are NaN, and no other's."""
    x = torch.linspace(-6, 6, 48, dtype=dtype, device=device).reshape(1, 6, 8)
    x[0, 3, 4] = torch.nan
    found = evaluate(operator, x, shape=pooled_shape(x))[direction].isnan()
    expected = torch.zeros_like(found)
    window = (0, 1, 2) if direction == "forward" else (0, slice(2, 4), slice(4, 6))
    expected[window] = True
    if torch.equal(found, expected):
        return None
    return f"{dtype}: a NaN makes {int(found.sum())} results NaN, not its own window's alone"


@gate
def _gradcheck(operator: Activation, device: torch.device) -> str | None:
    torch.autograd.gradcheck(operator, (_samples(device),))
    return None


@gate
def _gradgradcheck(operator: Activation, device: torch.device) -> str | None:
    torch.autograd.gradgradcheck(operator, (_samples(device),))
    return None


def _samples(device: torch.device) -> Any:
    """Return one plane with an odd row and column."""
    x = torch.linspace(-3.9, 4.1, 35, dtype=torch.float64, device=device)  # not 0, a kink's place
    return x.reshape(1, 5, 7).requires_grad_()


def _image(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return 4 planes of 128 x 128 whose windows' averages cover [-12, 12], as their values do."""
    generator = torch.Generator().manual_seed(5)
    level = torch.linspace(-12, 12, 64 * 64, dtype=torch.float64).reshape(1, 64, 64)
    level = level.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    spread = torch.tensor([0.0, 0.1, 1.0, 3.0], dtype=torch.float64).reshape(4, 1, 1)
    noise = torch.randn(4, 128, 128, generator=generator, dtype=torch.float64)
    return (level + spread * noise).clamp(-12, 12).to(device, dtype)
