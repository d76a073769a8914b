"""The truth: GELU and its derivative, to more digits than the dtype under test can show.

gelu(x) = x Phi(x) with Phi(x) = erfc(-x / sqrt 2) / 2, and gelu'(x) = Phi(x) + x phi(x). The form
with erfc, unlike the one with 1 + erf, loses nothing where x is far below zero.
"""

import math

import mpmath
import numpy as np
import torch

# The domain that figures are given for. Beyond it, GELU is x or, in float32, all but 0.
LIMIT = 12.0

# Where errors differ in kind; below -5, 1 + erf has no digits left in float32.
REGIONS = ((0.0, 12.0), (-1.0, 0.0), (-3.0, -1.0), (-5.0, -3.0), (-12.0, -5.0))

_DIGITS = 40


def of_float32(x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the "forward" and "backward" truth at float32 points, as float64 to about 1e-14."""
    points = torch.from_numpy(np.asarray(x, dtype=np.float64))
    distribution = 0.5 * torch.special.erfc(points * -math.sqrt(0.5))
    density = torch.exp(-0.5 * points * points) / math.sqrt(2.0 * math.pi)
    return {
        "forward": (points * distribution).numpy(),
        "backward": (distribution + points * density).numpy(),
    }


def of_tensor(x: torch.Tensor) -> dict[str, np.ndarray]:
    """Return the same at the values of a tensor: for few units to about 1e-15, absolutely."""
    return of_float32(x.detach().cpu().numpy())


def of_float64(x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the same at float64 points, computed with 40 digits and rounded once to float64."""
    forward, backward = [], []
    with mpmath.workdps(_DIGITS):
        for value in x:
            point = mpmath.mpf(float(value))
            distribution = mpmath.erfc(-point / mpmath.sqrt(2)) / 2
            forward.append(float(point * distribution))
            backward.append(float(distribution + point * mpmath.npdf(point)))
    return {"forward": np.array(forward), "backward": np.array(backward)}
