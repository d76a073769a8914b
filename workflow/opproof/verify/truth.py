"""The truth: GELU and its derivative, to more digits than the dtype under test can show.

gelu(x) = x Phi(x) with Phi(x) = erfc(-x / sqrt 2) / 2, and gelu'(x) = Phi(x) + x phi(x). The form
with erfc, unlike the one with 1 + erf, loses nothing where x is far below zero.
"""

import functools
import math

import mpmath
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# The domain that figures are given for. Beyond it, GELU is x or, in float32, all but 0.
LIMIT = 12.0

# Where errors differ in kind; below -5, 1 + erf has no digits left in float32.
REGIONS = ((0.0, 12.0), (-1.0, 0.0), (-3.0, -1.0), (-5.0, -3.0), (-12.0, -5.0))

# GELU's minimum, the root of its derivative. Within the window the derivative is so near 0 that
# units in its last place tell nothing: errors are absolute there.
MINIMUM = -0.751791524693564
WINDOW = 0.3

_DIGITS = 40


def at(x: Tensor) -> dict[str, Tensor]:
    """Return the "forward" and "backward" truth at a tensor's values, as float64 on the CPU.

    To 3e-14 relatively (the rounding of x / sqrt 2, magnified by x^2) and 2e-16 absolutely for a
    dtype below float64, whose digits end long before; rounded once for float64, at 0.1 ms a point.
    """
    if x.dtype != torch.float64:
        return fast(x)
    exact = _exact(x.detach().cpu().numpy().tobytes())
    return {direction: values.reshape(x.shape) for direction, values in exact.items()}


def fast(x: Tensor) -> dict[str, Tensor]:
    """Return the same, for float64 too only to that precision."""
    points = x.detach().cpu().double()
    distribution = 0.5 * torch.special.erfc(points * -math.sqrt(0.5))
    density = torch.exp(-0.5 * points * points) / math.sqrt(2.0 * math.pi)
    return {
        "forward": points * distribution,
        "backward": torch.addcmul(distribution, points, density),
    }


def pooled(x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """Return the same of activation, 2x2 average pool and activation, for x [..., H, W].

    "forward" is [..., H // 2, W // 2], "backward" of x's shape for `grad` of the result's.
    """
    inner = fast(x)
    # The average as a sum over the window's four places; an odd last row or column is left out.
    height, width = x.shape[-2] // 2, x.shape[-1] // 2
    quarters = [
        inner["forward"][..., row : 2 * height : 2, column : 2 * width : 2]
        for row in (0, 1)
        for column in (0, 1)
    ]
    outer = fast(0.25 * torch.stack(quarters).sum(0))
    share = 0.25 * grad.detach().cpu().double() * outer["backward"]
    spread = share.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
    odd = (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)
    return {"forward": outer["forward"], "backward": F.pad(spread, odd) * inner["backward"]}


@functools.lru_cache(maxsize=64)
def _exact(points: bytes) -> dict[str, Tensor]:
    forward, backward = [], []
    with mpmath.workdps(_DIGITS):
        for value in np.frombuffer(points):
            point = mpmath.mpf(float(value))
            distribution = mpmath.erfc(-point / mpmath.sqrt(2)) / 2
            forward.append(float(point * distribution))
            backward.append(float(distribution + point * mpmath.npdf(point)))
    return {
        direction: torch.tensor(values, dtype=torch.float64)
        for direction, values in (("forward", forward), ("backward", backward))
    }
