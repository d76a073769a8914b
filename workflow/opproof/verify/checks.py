"""The checks of an activation's numbers that gate: a backend that fails one of them is refused.

Each check returns None, or what is wrong in one line.
"""

import math
from typing import Any

import torch
from torch import Tensor

from opproof.operators import Activation
from opproof.verify import inputs, points
from opproof.verify.accuracy import units
from opproof.verify.evaluation import DIRECTIONS, evaluate
from opproof.verify.outcome import gate
from opproof.verify.truth import LIMIT, Truth

# What a claim allows near a root, where there are no units to count.
_NEAR_ROOT = 1e-7


def limit(own: dict[str, Any] | None, truth: Truth, dtype: torch.dtype, direction: str) -> float:
    """Return the largest absolute error that is allowed: 4 eps, or twice the yardstick's own.

    `own` are the yardstick's errors in the dtype. For 16 bits the limit bounds the excess over
    correct rounding instead: at 12, where a unit is 8 eps, rounding alone takes 4 eps, and twice
    that would let anything pass that is wrong near 0. Where the yardstick gives no number, or lacks
    the dtype, it is none.
    """
    error = own[direction][_measure(dtype)] if own else 0.0
    largest = 0.0 if dtype in points.NARROW else truth.largest[direction]
    return allowed(error if math.isfinite(error) else 0.0, largest, dtype, truth)


def allowed(own: float, largest: float, dtype: torch.dtype, truth: Truth) -> float:
    """Return the largest of 4 eps, half a unit of the largest truth, twice the yardstick's error.

    The truth in float64 may be the yardstick itself. Its error is then taken for two units of the
    largest number, x among them: x (1 - s), say, with s next to 1, has no less.
    """
    if dtype == torch.float64 and not truth.is_exact:
        own = max(own, 2 * _unit(max(largest, LIMIT), dtype))
    return max(4 * torch.finfo(dtype).eps, 0.5 * _unit(largest, dtype), 2 * own)


def _unit(value: float, dtype: torch.dtype) -> float:
    return units(torch.tensor([value], dtype=torch.float64), dtype).item()


def close_to_truth(
    observed: dict[str, Any], dtype: torch.dtype, direction: str, limit: float
) -> str | None:
    """Hold the largest error against the limit."""
    error = observed[direction][_measure(dtype)]
    if error <= limit:
        return None
    beyond = " beyond correct rounding" if dtype in points.NARROW else ""
    return f"the largest absolute error{beyond} is {error:.3g}, above {limit:.3g}"


def claim(observed: dict[str, Any], max_ulp: float) -> str | None:
    """Hold the float32 errors on [-12, 12] against what the backend claims.

    Within 0.3 of a root, as of GELU's derivative at -0.7518, to 1e-7 absolutely.
    """
    for direction in DIRECTIONS:
        for region, worst in observed[direction]["regions"].items():
            if not worst["ulp"] <= max_ulp:
                return (
                    f"{direction} on {region}: {worst['ulp']:.3g} ULP at x = {worst['x']:.9g}, "
                    f"above the {max_ulp:g} claimed"
                )
        worst = observed[direction]["near_root"]
        if not worst["absolute"] <= _NEAR_ROOT:
            return (
                f"{direction} near a root: off by {worst['absolute']:.3g} at x = {worst['x']:.9g}, "
                f"above {_NEAR_ROOT:g}"
            )
    return None


def any_layout(
    activation: Activation,
    truth: Truth,
    dtype: torch.dtype,
    limits: dict[str, float],
    device: torch.device,
) -> str | None:
    """Hold it to the limits for sizes to 33, all layouts, |x| to 1e4, under a random gradient.

    Memory that torch hands out is filled with NaN (torch.utils.deterministic), so that elements
    that the operator leaves unwritten show.
    """
    generator = torch.Generator().manual_seed(0)
    everything = (
        *inputs.sizes(dtype, device),
        *inputs.layouts(dtype, device),
        inputs.far(dtype, device),
    )
    for x in everything:
        if fault := _fault_at(activation, truth, x, inputs.gradient(x, generator), limits):
            return f"shape {tuple(x.shape)}, strides {x.stride()}: {fault}"
    return None


@gate
def keeps_nan(
    activation: Activation, own: Activation, dtype: torch.dtype, device: torch.device
) -> str | None:
    """Let NaN of every kind, in x or in the gradient, through: and nothing else become NaN.

    Where the yardstick's `own` results are NaN, that is: of NaN, torch's ReLU has the derivative 0.
    """
    infinity = torch.tensor(torch.inf, dtype=dtype)
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    # Signalling (the pattern after infinity's) and quiet, of both signs.
    pattern = infinity.view(integers) + 1
    positive = (pattern.view(dtype), torch.tensor(torch.nan, dtype=dtype))
    kinds = (*positive, *(-kind for kind in positive))
    for size in (1, 33):
        for kind in kinds:
            for place in {0, size // 2, size - 1}:
                clean = torch.linspace(-6, 6, size, dtype=dtype)
                spoilt = clean.clone()
                spoilt[place] = kind
                right = _with_nan(own, clean.to(device), spoilt.to(device))
                observed = _with_nan(activation, clean.to(device), spoilt.to(device))
                for what, values in observed.items():
                    expected, found = right[what].cpu().isnan(), values.cpu().isnan()
                    if bool((expected & ~found).any()):
                        value = values.cpu()[place].item()
                        return f"{what}: {_short(dtype)} NaN becomes {value:.3g} (size {size})"
                    if bool((found & ~spoilt.isnan()).any()):
                        return f"{what}: {_short(dtype)} NaN spreads to others (size {size})"
    return None


def _with_nan(activation: Activation, clean: Tensor, spoilt: Tensor) -> dict[str, Tensor]:
    """Return the results of an input with NaN, and the gradient where that has it."""
    found = evaluate(activation, spoilt)
    return {**found, "backward of NaN": evaluate(activation, clean, spoilt)["backward"]}


@gate
def gradcheck(activation: Activation, device: torch.device) -> str | None:
    """Hold the derivative against finite differences, in float64."""
    torch.autograd.gradcheck(activation, (_samples(device),))
    return None


@gate
def gradgradcheck(activation: Activation, device: torch.device) -> str | None:
    """Hold the second derivative against finite differences, in float64."""
    torch.autograd.gradgradcheck(activation, (_samples(device),))
    return None


@gate
def _fault_at(
    activation: Activation, truth: Truth, x: Tensor, grad: Tensor, limits: dict[str, float]
) -> str | None:
    """Say what is wrong with value or gradient at x, or that x is overwritten."""
    before = x.clone()
    observed = evaluate(activation, x, grad)
    with torch.no_grad():
        alone = activation(x)
        activation(-x)  # must not change an earlier result
    if not torch.equal(x, before):
        return "the input is overwritten"
    right = truth.fast(x)
    wide = grad.cpu() * right["backward"]
    for what, found, expected, limit in (
        ("forward", observed["forward"], right["forward"], limits["forward"]),
        ("forward without grad", alone, right["forward"], limits["forward"]),
        ("backward", observed["backward"], wide, limits["backward"]),
    ):
        # Far from zero a rounding is more than a limit made for [-12, 12].
        rounding = 4 * torch.finfo(x.dtype).eps * expected.abs().maximum(x.abs().cpu())
        if fault := fault_of(found, expected, rounding.clamp(min=limit), limit):
            return f"{what}: {fault}"
    return None


def fault_of(found: Tensor, expected: Tensor, allowed: Tensor | float, limit: float) -> str | None:
    """Say how far results are from a truth without NaN, where that is more than allowed."""
    unwritten = int(found.isnan().sum())
    if unwritten:
        return f"{unwritten} of {found.numel()} results are NaN, as memory is that is never written"
    # What its dtype can't hold is infinite, rightly.
    most = torch.finfo(found.dtype).max
    error = (found.detach().cpu().double().clamp(-most, most) - expected.clamp(-most, most)).abs()
    if not bool((error <= allowed).all()):
        return f"the largest absolute error is {error.max():.3g}, above {limit:.3g}"
    return None


def _measure(dtype: torch.dtype) -> str:
    return "max_excess" if dtype in points.NARROW else "max_absolute"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _samples(device: torch.device) -> Tensor:
    # Not where activations have a kink: 0, and other halves of integers.
    x = torch.linspace(-5.9, 6.1, 25, dtype=torch.float64, device=device)
    return x.requires_grad_()
