"""Findings that need no digits of the truth: identities, and monotony between extrema."""

from collections.abc import Iterator

import torch
from torch import Tensor

from opproof.operators import Activation
from opproof.verify import points
from opproof.verify.accuracy import units
from opproof.verify.evaluation import evaluate
from opproof.verify.outcome import Finding, finding
from opproof.verify.truth import LIMIT, Truth

# Two results of 2 ULP each: what an identity may be off by.
_DEVIATION = 4.0

# Where runs of neighbouring float32 start, in the order of their bit patterns, and how long.
_STARTS = (0.1, 1.0, 4.0, -0.1, -0.76, -1.0, -2.0, -4.0, -6.0, -10.0)
_RUN = 1 << 16


def has_gate(truth: Truth) -> bool:
    """Say whether it is x times a function that is 1 - itself at -x, as GELU and SiLU are."""
    x = torch.linspace(0.1, LIMIT, 1000, dtype=torch.float64)
    odd = truth.fast(x)["forward"] - truth.fast(-x)["forward"]
    return bool(torch.allclose(odd, x, rtol=1e-12, atol=0))


@finding
def odd_part(activation: Activation, device: torch.device) -> Finding:
    """f(x) - f(-x) = x, in float32: the largest deviation, in ULP of x."""
    return _identity(activation, device, "forward")


@finding
def derivative_sum(activation: Activation, device: torch.device) -> Finding:
    """f'(x) + f'(-x) = 1, in float32: the largest deviation, in eps."""
    return _identity(activation, device, "backward")


@finding
def monotone(activation: Activation, truth: Truth, device: torch.device) -> Finding:
    """Rising where the truth rises, falling where it falls: float32 steps that go the wrong way."""
    parts = []
    for what, vectors in (("steps", _sweep()), ("neighbouring floats", _runs())):
        wrong, total, first = 0, 0, None
        for x in vectors:
            y = evaluate(activation, x.to(device))["forward"].cpu()
            slope = truth.fast(x)["backward"].sign()
            # Not across an extremum.
            slope = torch.where(slope[1:] == slope[:-1], slope[1:], 0)
            bad = torch.where(slope > 0, y[1:] < y[:-1], (slope < 0) & (y[1:] > y[:-1]))
            wrong += int(bad.sum())
            total += bad.numel()
            if first is None and bool(bad.any()):
                first = x[1:][bad][0].item()
        if wrong:
            parts.append(f"{wrong} of {total} {what} go the wrong way, first at x = {first:.9g}")
    return Finding(not parts, "; ".join(parts) or None)


def _identity(activation: Activation, device: torch.device, direction: str) -> Finding:
    worst, place = 0.0, 0.0
    for x in points.chunks(torch.float32, 0.0, LIMIT, points.SPARSE):
        left, right = (
            evaluate(activation, values.to(device))[direction].cpu().double() for values in (-x, x)
        )
        wide = x.double()
        if direction == "forward":
            off = (right - left - wide).abs() / units(wide, torch.float32)
        else:
            off = (right + left - 1).abs() / torch.finfo(torch.float32).eps
        found, index = off.nan_to_num(nan=torch.inf).max(0)
        if found.item() > worst:
            worst, place = found.item(), x[index].item()
    unit = "ULP of x" if direction == "forward" else "eps"
    return Finding(worst <= _DEVIATION, f"off by up to {worst:.3g} {unit}, at x = {place:.9g}")


def _sweep() -> Iterator[Tensor]:
    """Yield a million points, rising."""
    negative = [*points.chunks(torch.float32, -LIMIT, -0.0, points.SPARSE)]
    positive = [*points.chunks(torch.float32, 0.0, LIMIT, points.SPARSE)]
    yield torch.cat([*(x.flip(0) for x in reversed(negative)), *positive]).unique()


def _runs() -> Iterator[Tensor]:
    """Yield neighbouring float32, rising."""
    for start in _STARTS:
        first = torch.tensor(start, dtype=torch.float32).view(torch.int32)
        run = (first + torch.arange(_RUN, dtype=torch.int32)).view(torch.float32)
        yield run if start > 0 else run.flip(0)
