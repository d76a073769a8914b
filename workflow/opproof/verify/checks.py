"""The checks of an activation's numbers that gate: a backend that fails one of them is refused.

Each check returns None, or what is wrong in one line.
"""

import math
from typing import Any

import torch
from torch import Tensor

from opproof.operators import Activation
from opproof.verify import inputs, points, truth
from opproof.verify.evaluation import DIRECTIONS, evaluate
from opproof.verify.outcome import gate

# What a claim allows near the root of the derivative, where it has no units to count.
_NEAR_ROOT = 1e-7


def limit(baseline: dict[str, Any] | None, dtype: torch.dtype, direction: str) -> float:
    """Return the largest absolute error that is allowed: 4 eps, or twice F.gelu's own here.

    For 16 bits it bounds the excess over correct rounding instead: at 12, where a unit is 8 eps,
    rounding alone takes 4 eps, and twice that would let anything pass that is wrong near 0.
    Where F.gelu gives no number, or lacks the dtype, it is no yardstick: the limit is 4 eps.
    """
    own = baseline[direction][_measure(dtype)] if baseline else 0.0
    return max(4 * torch.finfo(dtype).eps, 2 * own if math.isfinite(own) else 0.0)


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

    Near the derivative's root, |x + 0.7518| < 0.3, to 1e-7 absolutely.
    """
    for direction in DIRECTIONS:
        for region, worst in observed[direction]["regions"].items():
            if not worst["ulp"] <= max_ulp:
                return (
                    f"{direction} on {region}: {worst['ulp']:.3g} ULP at x = {worst['x']:.9g}, "
                    f"above the {max_ulp:g} claimed"
                )
    worst = observed["backward"]["near_root"]
    if not worst["absolute"] <= _NEAR_ROOT:
        return (
            f"backward near its root: off by {worst['absolute']:.3g} at x = {worst['x']:.9g}, "
            f"above {_NEAR_ROOT:g}"
        )
    return None


def any_layout(
    activation: Activation, dtype: torch.dtype, limits: dict[str, float], device: torch.device
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
        if fault := _fault_at(activation, x, inputs.gradient(x, generator), limits):
            return f"shape {tuple(x.shape)}, strides {x.stride()}: {fault}"
    return None


@gate
def keeps_nan(activation: Activation, dtype: torch.dtype, device: torch.device) -> str | None:
    """Let NaN of every kind, in x or in the gradient, through: and nothing else become NaN."""
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
                expected = spoilt.isnan()
                observed = {
                    **evaluate(activation, spoilt.to(device)),
                    "backward of NaN": evaluate(activation, clean.to(device), spoilt.to(device))[
                        "backward"
                    ],
                }
                for what, values in observed.items():
                    found = values.cpu().isnan()
                    if bool((expected & ~found).any()):
                        value = values.cpu()[place].item()
                        return f"{what}: {_short(dtype)} NaN becomes {value:.3g} (size {size})"
                    if bool((found & ~expected).any()):
                        return f"{what}: {_short(dtype)} NaN spreads to others (size {size})"
    return None


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
    activation: Activation, x: Tensor, grad: Tensor, limits: dict[str, float]
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
    # Far from zero, where gelu(x) is x, a rounding of x is more than a limit made for [-12, 12].
    rounding = 4 * torch.finfo(x.dtype).eps * x.abs().cpu().double()
    for what, found, expected, limit in (
        ("forward", observed["forward"], right["forward"], limits["forward"]),
        ("forward without grad", alone, right["forward"], limits["forward"]),
        ("backward", observed["backward"], grad.cpu() * right["backward"], limits["backward"]),
    ):
        if fault := fault_of(found, expected, rounding.clamp(min=limit), limit):
            return f"{what}: {fault}"
    return None


def fault_of(found: Tensor, expected: Tensor, allowed: Tensor | float, limit: float) -> str | None:
    """Say how far results are from a truth without NaN, where that is more than allowed."""
    unwritten = int(found.isnan().sum())
    if unwritten:
        return f"{unwritten} of {found.numel()} results are NaN, as memory is that is never written"
    error = (found.detach().cpu().double() - expected).abs()
    if not bool((error <= allowed).all()):
        return f"the largest absolute error is {error.max():.3g}, above {limit:.3g}"
    return None


def _measure(dtype: torch.dtype) -> str:
    return "max_excess" if dtype in points.NARROW else "max_absolute"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _samples(device: torch.device) -> Tensor:
    x = torch.linspace(-6, 6, 25, dtype=torch.float64, device=device)
    return x.requires_grad_()
