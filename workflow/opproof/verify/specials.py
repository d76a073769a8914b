"""Findings at special values: zeros, infinities, subnormals and the largest numbers."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from opproof.operators import Activation
from opproof.verify.accuracy import name_of
from opproof.verify.evaluation import evaluate
from opproof.verify.outcome import Finding, finding
from opproof.verify.truth import Truth

# Of an x: what the activation and its derivative may be.
_Case = tuple[str, float, tuple[float, ...], tuple[float, ...]]

# Where float64 has reached its limits.
_FAR = 1e300

# Alone, and enough for vector registers and a rest.
_SIZES = (1, 37)

# Of what is wrong, as much as is read.
_SHOWN = 6


@finding
def zeros(
    activation: Activation, truth: Truth, dtypes: Iterable[torch.dtype], device: torch.device
) -> Finding:
    """Expect the truth at +0 and -0, of GELU +0, -0 and 1/2, to the sign."""
    cases = {dtype: _cases(truth, dtype, {"0": 0.0, "-0": -0.0}) for dtype in dtypes}
    return _all(activation, cases, device)


@finding
def infinities(
    activation: Activation, truth: Truth, dtypes: Iterable[torch.dtype], device: torch.device
) -> Finding:
    """Expect the limits, which the truth has reached at 1e300: of GELU inf and 1, and 0 and 0.

    A zero that is a limit may have either sign.
    """
    far = _at(truth, torch.tensor([_FAR, -_FAR], dtype=torch.float64))
    cases: list[_Case] = [
        (name, value, _limits(far[0][index].item()), _limits(far[1][index].item()))
        for index, (name, value) in enumerate({"inf": math.inf, "-inf": -math.inf}.items())
    ]
    return _all(activation, dict.fromkeys(dtypes, cases), device)


@finding
def largest(
    activation: Activation, truth: Truth, dtypes: Iterable[torch.dtype], device: torch.device
) -> Finding:
    """Right to the end: of GELU f(max) is max, f(-max) is 0; the derivatives 1 and 0."""
    cases = {}
    for dtype in dtypes:
        most = torch.finfo(dtype).max
        cases[dtype] = _cases(truth, dtype, {"max": most, "-max": -most}, either_zero=True)
    return _all(activation, cases, device)


@finding
def subnormals(
    activation: Activation, truth: Truth, dtypes: Iterable[torch.dtype], device: torch.device
) -> Finding:
    """Below the normal numbers not flushed to 0: of GELU x/2 and 1/2, the value to one unit."""
    cases: dict[torch.dtype, list[_Case]] = {}
    for dtype in dtypes:
        info = torch.finfo(dtype)
        unit = info.tiny * info.eps
        points = {
            f"{sign * multiple} units": sign * multiple * unit
            for multiple in (3, 100, int(1 / info.eps) - 1)
            for sign in (1, -1)
        }
        cases[dtype] = [
            (name, x, _within_a_unit(forward[0], dtype), backward)
            for name, x, forward, backward in _cases(truth, dtype, points)
        ]
    return _all(activation, cases, device)


def _at(truth: Truth, x: Tensor) -> tuple[Tensor, Tensor]:
    found = truth.fast(x)
    return found["forward"], found["backward"]


def _cases(
    truth: Truth, dtype: torch.dtype, points: dict[str, float], either_zero: bool = False
) -> list[_Case]:
    """Return what the truth, rounded to the dtype, is at these points, given by name."""
    x = torch.tensor([*points.values()], dtype=torch.float64)
    values, slopes = (of.to(dtype).tolist() for of in _at(truth, x))
    return [
        (name, point, _allowed(truth, value, dtype, either_zero), _allowed(truth, slope, dtype))
        for (name, point), value, slope in zip(points.items(), values, slopes, strict=True)
    ]


def _allowed(
    truth: Truth, value: float, dtype: torch.dtype, either_zero: bool = True
) -> tuple[float, ...]:
    """Return what a result may be; where the truth is computed, its neighbours too."""
    if truth.is_exact or value == 0 or not math.isfinite(value):
        return _signed(value, either_zero)
    return _within_a_unit(value, dtype)


def _signed(value: float, either_zero: bool) -> tuple[float, ...]:
    """Return the value; of zero, where it may have either sign, both; of NaN, no number, none."""
    if math.isnan(value):
        return ()
    return (value, -value) if value == 0 and either_zero else (value,)


def _limits(value: float) -> tuple[float, ...]:
    """Return a limit from the value far out: what has grown with x is infinite."""
    if not abs(value) > math.sqrt(_FAR):
        return _signed(value, either_zero=True)
    return (math.copysign(math.inf, value),)


def _within_a_unit(value: float, dtype: torch.dtype) -> tuple[float, ...]:
    """Return the value of the dtype and its neighbours on either side."""
    at = torch.tensor(value, dtype=dtype)
    ends = (torch.tensor(end, dtype=dtype) for end in (-math.inf, math.inf))
    around = (torch.nextafter(at, end).item() for end in ends)
    return (value, *(math.copysign(near, value) for near in around))


def _all(
    activation: Activation, cases: dict[torch.dtype, list[_Case]], device: torch.device
) -> Finding:
    """Name what came out instead, and for which dtypes."""
    wrong: dict[str, list[str]] = {}
    for dtype, entries in cases.items():
        for case in entries:
            for text in dict.fromkeys(
                text for size in _SIZES for text in _wrong(activation, case, dtype, size, device)
            ):
                wrong.setdefault(text, []).append(name_of(dtype))
    details = [f"{text} ({', '.join(names)})" for text, names in wrong.items()]
    if len(details) > _SHOWN:
        details[_SHOWN:] = [f"{len(details) - _SHOWN} more"]
    return Finding(not wrong, "; ".join(details) or None)


def _wrong(
    activation: Activation, case: _Case, dtype: torch.dtype, size: int, device: torch.device
) -> list[str]:
    name, value, forward, backward = case
    found = evaluate(activation, torch.full((size,), value, dtype=dtype, device=device))
    texts = []
    for direction, function, allowed in (
        ("forward", "f", forward),
        ("backward", "f'", backward),
    ):
        wrong = [
            result
            for result in found[direction].tolist()
            if allowed and not _among(result, allowed)
        ]
        if wrong:
            texts.append(f"{function}({name}) = {wrong[0]:g}")
    return texts


def _among(result: float, allowed: tuple[float, ...]) -> bool:
    """Say whether it is one of them, of the same sign."""
    sign = math.copysign(1.0, result)
    return any(result == value and sign == math.copysign(1.0, value) for value in allowed)
