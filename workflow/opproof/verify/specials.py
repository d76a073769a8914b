"""Findings at special values: zeros, infinities, subnormals and the largest numbers."""

import math
from collections.abc import Iterable

import torch

from opproof.operators import Activation
from opproof.verify.accuracy import name_of
from opproof.verify.evaluation import evaluate
from opproof.verify.outcome import Finding, finding

# Of an x: what GELU and its derivative may be. Either zero is a limit at -inf.
_Case = tuple[str, float, tuple[float, ...], tuple[float, ...]]
_EITHER_ZERO = (0.0, -0.0)

# Alone, and enough for vector registers and a rest.
_SIZES = (1, 37)

# Of what is wrong, as much as is read.
_SHOWN = 6


@finding
def zeros(activation: Activation, dtypes: Iterable[torch.dtype], device: torch.device) -> Finding:
    """gelu(+0) is +0, gelu(-0) is -0, the derivative 1/2."""
    return _all(
        activation,
        {dtype: [("0", 0.0, (0.0,), (0.5,)), ("-0", -0.0, (-0.0,), (0.5,))] for dtype in dtypes},
        device,
    )


@finding
def infinities(
    activation: Activation, dtypes: Iterable[torch.dtype], device: torch.device
) -> Finding:
    """Expect the limits: gelu(inf) is inf, gelu(-inf) is 0 of either sign; derivatives 1, 0."""
    cases: list[_Case] = [
        ("inf", math.inf, (math.inf,), (1.0,)),
        ("-inf", -math.inf, _EITHER_ZERO, _EITHER_ZERO),
    ]
    return _all(activation, dict.fromkeys(dtypes, cases), device)


@finding
def largest(activation: Activation, dtypes: Iterable[torch.dtype], device: torch.device) -> Finding:
    """Finite to the end: gelu(max) is max, gelu(-max) is 0; the derivatives 1 and 0."""
    cases: dict[torch.dtype, list[_Case]] = {
        dtype: [
            ("max", torch.finfo(dtype).max, (torch.finfo(dtype).max,), (1.0,)),
            ("-max", -torch.finfo(dtype).max, _EITHER_ZERO, _EITHER_ZERO),
        ]
        for dtype in dtypes
    }
    return _all(activation, cases, device)


@finding
def subnormals(
    activation: Activation, dtypes: Iterable[torch.dtype], device: torch.device
) -> Finding:
    """Below the normal numbers gelu(x) is x/2, to one unit, and not flushed to 0."""
    cases: dict[torch.dtype, list[_Case]] = {}
    for dtype in dtypes:
        info = torch.finfo(dtype)
        unit = info.tiny * info.eps
        cases[dtype] = [
            (
                f"{sign * multiple} units",
                sign * multiple * unit,
                tuple(sign * half * unit for half in _halves(multiple)),
                (0.5,),
            )
            for multiple in (3, 100, int(1 / info.eps) - 1)
            for sign in (1, -1)
        ]
    return _all(activation, cases, device)


def _halves(multiple: int) -> range:
    """Return the integers within 1 of half of it."""
    return range((multiple - 1) // 2, multiple // 2 + 2)


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
        ("forward", "gelu", forward),
        ("backward", "gelu'", backward),
    ):
        wrong = [result for result in found[direction].tolist() if not _among(result, allowed)]
        if wrong:
            texts.append(f"{function}({name}) = {wrong[0]:g}")
    return texts


def _among(result: float, allowed: tuple[float, ...]) -> bool:
    """Say whether it is one of them, of the same sign."""
    sign = math.copysign(1.0, result)
    return any(result == value and sign == math.copysign(1.0, value) for value in allowed)
