"""Findings that rest on no truth: identities, and monotony on each side of the minimum."""

from collections.abc import Iterator

import torch
from torch import Tensor

from opproof.operators import Activation
from opproof.verify import points, truth
from opproof.verify.accuracy import units
from opproof.verify.evaluation import evaluate
from opproof.verify.outcome import Finding, finding

# Two results of 2 ULP each: what an identity may be off by.
_DEVIATION = 4.0

# Where runs of neighbouring float32 start, in the order of their bit patterns, and how long.
_STARTS = (0.1, 1.0, 4.0, -0.1, -0.76, -1.0, -2.0, -4.0, -6.0, -10.0)
_RUN = 1 << 16


@finding
def odd_part(activation: Activation, device: torch.device) -> Finding:
    """gelu(x) - gelu(-x) = x, in float32: the largest deviation, in ULP of x."""
    return _identity(activation, device, "forward")


@finding
def derivative_sum(activation: Activation, device: torch.device) -> Finding:
    """g'(x) + g'(-x) = 1, in float32: the largest deviation, in eps."""
    return _identity(activation, device, "backward")


@finding
def monotone(activation: Activation, device: torch.device) -> Finding:
    """Falling up to the minimum and rising from there: float32 steps that go the wrong way."""
    parts = []
    for what, vectors in (("steps", _sweep()), ("neighbouring floats", _runs())):
        wrong, total, first = 0, 0, None
        for x in vectors:
            y = evaluate(activation, x.to(device))["forward"].cpu()
            rising = x[1:].double() > truth.MINIMUM
            bad = torch.where(rising, y[1:] < y[:-1], y[1:] > y[:-1])
            wrong += int(bad.sum())
            total += bad.numel()
            if first is None and bool(bad.any()):
                first = x[1:][bad][0].item()
        if wrong:
            parts.append(f"{wrong} of {total} {what} go the wrong way, first at x = {first:.9g}")
    return Finding(not parts, "; ".join(parts) or None)


def _identity(activation: Activation, device: torch.device, direction: str) -> Finding:
    worst, place = 0.0, 0.0
    for x in points.chunks(torch.float32, 0.0, truth.LIMIT, points.SPARSE):
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
    """Yield a million points, rising, the two sides of the minimum apart."""
    left, right = truth.MINIMUM, -truth.MINIMUM
    negative = [*points.chunks(torch.float32, -truth.LIMIT, -0.0, points.SPARSE)]
    positive = [*points.chunks(torch.float32, 0.0, truth.LIMIT, points.SPARSE)]
    rising = torch.cat([*(x.flip(0) for x in reversed(negative)), *positive]).unique()
    yield rising[rising.double() <= left]
    yield rising[rising.double() >= -right]


def _runs() -> Iterator[Tensor]:
    """Yield neighbouring float32, rising, none of them across the minimum."""
    for start in _STARTS:
        first = torch.tensor(start, dtype=torch.float32).view(torch.int32)
        run = (first + torch.arange(_RUN, dtype=torch.int32)).view(torch.float32)
        yield run if start > 0 else run.flip(0)
