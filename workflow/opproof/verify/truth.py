"""The truth: an activation and its derivative, to more digits than the dtype under test can show.

Of GELU, gelu(x) = x Phi(x) with Phi(x) = erfc(-x / sqrt 2) / 2, and gelu'(x) = Phi(x) + x phi(x).
The form with erfc, unlike the one with 1 + erf, loses nothing where x is far below zero. Of any
other activation, what its reference computes in float64.
"""

import functools
import math
from abc import ABC, abstractmethod

import mpmath
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from opproof import operators
from opproof.errors import BackendError
from opproof.operators import Activation
from opproof.settings import GELU
from opproof.verify.evaluation import DIRECTIONS, evaluate
from opproof.verify.outcome import gate

# The domain that figures are given for.
LIMIT = 12.0

# Where GELU's errors differ in kind; below -5, 1 + erf has no digits left in float32.
REGIONS = ((0.0, 12.0), (-1.0, 0.0), (-3.0, -1.0), (-5.0, -3.0), (-12.0, -5.0))

# Within it about a root the value is so near 0 that units in its last place tell nothing: errors
# are absolute there. Not about x = 0, which floats resolve as finely as the value.
WINDOW = 0.3

_DIGITS = 40

# Where changes of sign are looked for: none of the points is 0, nor next to it.
_GRID = torch.linspace(-LIMIT, LIMIT, 48_000, dtype=torch.float64)
_HALVINGS = 60


class Truth(ABC):
    """An activation and its derivative, of float64 points on the CPU."""

    # Whether float64 results can be held to it as to a truth: it has more digits than they.
    is_exact: bool

    def at(self, x: Tensor) -> dict[str, Tensor]:
        """Return the "forward" and "backward" truth at a tensor's values, as float64 on the CPU."""
        return self.fast(x)

    @abstractmethod
    def fast(self, x: Tensor) -> dict[str, Tensor]:
        """Return the same, for float64 too only to float64's own precision."""

    @functools.cached_property
    def roots(self) -> dict[str, tuple[float, ...]]:
        """The roots within [-12, 12] in either direction, but for x = 0."""
        values = self.fast(_GRID)
        return {direction: tuple(self._roots(direction, values)) for direction in DIRECTIONS}

    @functools.cached_property
    def largest(self) -> dict[str, float]:
        """The largest magnitude on [-12, 12] in either direction."""
        values = self.fast(_GRID)
        return {direction: float(values[direction].abs().max()) for direction in DIRECTIONS}

    def _roots(self, direction: str, values: dict[str, Tensor]) -> list[float]:
        signs = values[direction].sign()
        found = []
        for index in torch.nonzero(signs[:-1] * signs[1:] < 0).flatten().tolist():
            low, high = _GRID[index : index + 2].tolist()
            if low < 0 < high:
                continue
            for _ in range(_HALVINGS):
                middle = torch.tensor([0.5 * (low + high)], dtype=torch.float64)
                same = self.fast(middle)[direction].sign().item() == signs[index].item()
                low, high = (middle.item(), high) if same else (low, middle.item())
            found.append(0.5 * (low + high))
        return found

    def pooled(self, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
        """Return the same of activation, 2x2 average pool and activation, for x [..., H, W].

        "forward" is [..., H // 2, W // 2], "backward" of x's shape for `grad` of the result's.
        """
        inner = self.fast(x)
        # The average as a sum over the window's four places; an odd last row or column is left out.
        height, width = x.shape[-2] // 2, x.shape[-1] // 2
        quarters = [
            inner["forward"][..., row : 2 * height : 2, column : 2 * width : 2]
            for row in (0, 1)
            for column in (0, 1)
        ]
        outer = self.fast(0.25 * torch.stack(quarters).sum(0))
        share = 0.25 * grad.detach().cpu().double() * outer["backward"]
        spread = share.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
        odd = (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)
        return {"forward": outer["forward"], "backward": F.pad(spread, odd) * inner["backward"]}


class Gelu(Truth):
    """GELU: to 3e-14 relatively, the rounding of x / sqrt 2, magnified by x^2; 2e-16 absolutely.

    Rounded once for float64, at 0.1 ms a point.
    """

    is_exact = True

    def at(self, x: Tensor) -> dict[str, Tensor]:
        if x.dtype != torch.float64:
            return self.fast(x)
        exact = _exact_gelu(x.detach().cpu().numpy().tobytes())
        return {direction: values.reshape(x.shape) for direction, values in exact.items()}

    def fast(self, x: Tensor) -> dict[str, Tensor]:
        points = x.detach().cpu().double()
        distribution = 0.5 * torch.special.erfc(points * -math.sqrt(0.5))
        density = torch.exp(-0.5 * points * points) / math.sqrt(2.0 * math.pi)
        return {
            "forward": points * distribution,
            "backward": torch.addcmul(distribution, points, density),
        }


class Computed(Truth):
    """What a function of torch computes in float64, and what autograd makes of it."""

    is_exact = False

    def __init__(self, function: Activation) -> None:
        self._function = function

    def fast(self, x: Tensor) -> dict[str, Tensor]:
        return evaluate(self._function, x.detach().cpu().double())


@functools.cache
def of(reference: str) -> Truth:
    """Return the truth of "package.module:function", a settings' reference.

    Raises BackendError where there is none, or where it is not a function of every float64 in
    [-12, 12], element by element, that autograd can differentiate.
    """
    if reference == GELU:
        return Gelu()
    function = operators.resolve_reference(reference)
    if fault := _fault_of(function):
        raise BackendError(f"reference {reference}: {fault}")
    return Computed(function)


@gate
def _fault_of(function: Activation) -> str | None:
    """Say why a function of torch can't be a truth, None if it can."""
    found = evaluate(function, _GRID)
    backwards = evaluate(function, _GRID.flip(0))
    for direction, values in found.items():
        if not bool(values.isfinite().all()):
            place = _GRID[~values.isfinite()][0].item()
            return f"{direction}: not finite at x = {place:.9g}; allowed: finite on [-12, 12]"
        if not torch.equal(values, backwards[direction].flip(0)):
            return f"{direction}: not a function of each element by itself"
    return None


@functools.lru_cache(maxsize=64)
def _exact_gelu(points: bytes) -> dict[str, Tensor]:
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
