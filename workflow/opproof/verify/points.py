"""The points of [-12, 12] that errors are measured at: bit patterns, all or every so many."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Of 16-bit floats there are few enough to take every one.
NARROW = (torch.bfloat16, torch.float16)
DTYPES = (torch.float32, torch.float64, *NARROW)

# Results are kept a chunk at a time, so that memory does not grow with the number of points.
_CHUNK = 1 << 20

# Below this, gelu(x) is x/2 and a little; most patterns of float32 lie there, and few are taken.
_SMALL = 2.0**-12


@dataclass(frozen=True)
class Density:
    """Every how manieth pattern of float32 is taken, and how many points of float64 a region.

    `fine` for |x| from 2^-12 up, `coarse` below. Both odd, so that all low bits occur.
    """

    fine: int
    coarse: int
    float64: int


USUAL = Density(fine=7, coarse=997, float64=801)
# Every pattern there is. The truth for float64 has 40 digits, and takes 0.1 ms a point.
THOROUGH = Density(fine=1, coarse=1, float64=20_001)
# For properties that are looked at besides: a million points.
SPARSE = Density(fine=257, coarse=49_999, float64=0)


def chunks(dtype: torch.dtype, low: float, high: float, density: Density) -> Iterator[Tensor]:
    """Yield vectors that cover [low, high], both ends too, of one sign, from 0 outwards."""
    negative = low < 0
    near, far = sorted((abs(low), abs(high)))
    for part in _magnitudes(dtype, near, far, density):
        yield -part if negative else part


def _magnitudes(dtype: torch.dtype, near: float, far: float, density: Density) -> Iterator[Tensor]:
    if dtype == torch.float64:
        yield torch.linspace(near, far, density.float64, dtype=dtype)
    elif dtype in NARROW:
        yield from _patterns(dtype, near, far, 1)
    else:
        if near < _SMALL:
            yield from _patterns(dtype, near, min(_SMALL, far), density.coarse)
        if far > _SMALL:
            yield from _patterns(dtype, max(near, _SMALL), far, density.fine)


def _patterns(dtype: torch.dtype, near: float, far: float, step: int) -> Iterator[Tensor]:
    """Yield every step-th float of [near, far], and the last; both at least 0."""
    integers = torch.int16 if dtype in NARROW else torch.int32
    first, last = torch.tensor([near, far], dtype=dtype).view(integers).tolist()
    for start in range(first, last + 1, _CHUNK * step):
        stop = min(start + _CHUNK * step, last + 1)
        patterns = torch.arange(start, stop, step, dtype=torch.int64)
        if stop > last and patterns[-1] != last:
            # Not as a vector of its own: an operator may compute one value in another way.
            patterns = torch.cat([patterns, torch.tensor([last])])
        yield patterns.to(integers).view(dtype)
