"""The largest error in ULP along x, for a figure: of each of 200 equal parts of [-12, 12]."""

import torch
from torch import Tensor

from opproof.verify.truth import LIMIT

PARTS = 200

_NO_POINT = -1.0
_DIGITS = 4  # more can't be seen, and take room in the record


def empty() -> Tensor:
    """Return a profile without points, float64 [PARTS], for `take` to fill."""
    return torch.full((PARTS,), _NO_POINT, dtype=torch.float64)


def take(profile: Tensor, x: Tensor, ulp: Tensor) -> None:
    """Take in the errors at x, in ULP: both of the same length, in any order."""
    part = (x.double() + LIMIT).mul_(PARTS / (2 * LIMIT)).long()
    profile.scatter_reduce_(0, part.clamp_(max=PARTS - 1), ulp, "amax")


def as_list(profile: Tensor) -> list[float | None]:
    """Return the errors from x = -12 on, to four digits, None for a part without points."""
    return [
        None if worst == _NO_POINT else float(f"{worst:.{_DIGITS}g}") for worst in profile.tolist()
    ]
