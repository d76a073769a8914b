"""How far an activation is from the truth: absolutely, relatively, in units in the last place."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from opproof.operators import Activation
from opproof.verify import points, profile
from opproof.verify.evaluation import DIRECTIONS, evaluate
from opproof.verify.outcome import in_one_line
from opproof.verify.points import Density
from opproof.verify.truth import REGIONS, WINDOW, Truth

# The textbook compares gradients on this many samples.
_TEXTBOOK_SAMPLES = 100


def by_dtype(
    activation: Activation, truth: Truth, device: torch.device, density: Density
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return `errors` by the name of the dtype, and of 16-bit dtypes that fail what was raised.

    Raises what the activation raises in float32 and float64, which it must support.
    """
    observed, unsupported = {}, {}
    for dtype in points.DTYPES:
        try:
            observed[name_of(dtype)] = errors(activation, truth, dtype, device, density)
        except Exception as error:
            if dtype not in points.NARROW:
                raise
            unsupported[name_of(dtype)] = in_one_line(error)
    return observed, unsupported


def errors(
    activation: Activation,
    truth: Truth,
    dtype: torch.dtype,
    device: torch.device,
    density: Density,
) -> dict[str, Any]:
    """Return, per direction, the worst errors on [-12, 12]: over all, and by region of x.

    {"forward": {"max_absolute", "max_excess", "regions": {"[0, 12]": {"absolute", "relative",
    "ulp", "x"}, ...}, "near_root": {"absolute", "x"}}, "backward": {the same}}; in float32 also
    "profile", the largest error in ULP in each of 200 equal parts of [-12, 12].

    An error is infinite where the result is not finite; x is where the error in ULP is largest.
    Where the truth has a root it is left out of the regions and the profile (a part without points
    is None): units vanish there. It has a row of its own, without x where there is no root.
    The excess is how much further from the truth a result is than the nearest float of its dtype.
    """
    found: dict[str, Any] = {
        direction: {
            "max_absolute": 0.0,
            "max_excess": 0.0,
            "regions": {},
            "near_root": {"absolute": 0.0, "x": None},
        }
        for direction in DIRECTIONS
    }
    profiles = {direction: profile.empty() for direction in DIRECTIONS}
    for low, high in REGIONS:
        rows = {direction: _row() for direction in DIRECTIONS}
        for x in points.chunks(dtype, low, high, density):
            expected = truth.at(x)
            observed = evaluate(activation, x.to(device, copy=True))
            for direction in DIRECTIONS:
                measured = _measure(observed[direction].cpu(), expected[direction])
                _take_overall(found[direction], measured)
                at = x
                if (outside := _outside_windows(x, truth.roots[direction])) is not None:
                    _take_near_root(found[direction]["near_root"], x, measured, ~outside)
                    at = x[outside]
                    measured = {name: values[outside] for name, values in measured.items()}
                _take_region(rows[direction], at, measured)
                profile.take(profiles[direction], at, measured["ulp"])
        for direction in DIRECTIONS:
            found[direction]["regions"][f"[{low:g}, {high:g}]"] = rows[direction]
    if dtype == torch.float32:
        for direction in DIRECTIONS:
            found[direction]["profile"] = profile.as_list(profiles[direction])
    return found


def gradient_mse(activation: Activation, yardstick: Activation, device: torch.device) -> float:
    """Return the textbook's figure: mean squared difference of its gradients from the yardstick's.

    Gradients of an MSE loss at 100 normal samples, float32.
    """
    generator = torch.Generator().manual_seed(0)
    x, target = torch.randn(2, _TEXTBOOK_SAMPLES, generator=generator).to(device)
    gradients = []
    for function in (yardstick, activation):
        leaf = x.clone().requires_grad_()
        loss = F.mse_loss(function(leaf), target)
        gradients.append(torch.autograd.grad(loss, leaf)[0])
    return F.mse_loss(*gradients).item()


def name_of(dtype: torch.dtype) -> str:
    """Return a dtype's name as in a record: "float32"."""
    return str(dtype).removeprefix("torch.")


def units(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the unit in the last place of `dtype` at float64 values, subnormal ones included."""
    info = torch.finfo(dtype)
    # The exponent's bits alone are the power of two below.
    powers = (values.view(torch.int64) & 0x7FF0000000000000).view(torch.float64)
    return (powers * info.eps).clamp_(min=info.tiny * info.eps)


def _measure(observed: Tensor, expected: Tensor) -> dict[str, Tensor]:
    """Return absolute, excess, relative and in ULP; `observed` of the dtype, the truth float64."""
    absolute = (observed.double() - expected).abs_()
    absolute[~observed.isfinite()] = math.inf
    nearest = (expected.to(observed.dtype).double() - expected).abs_()
    # Relatively to a normal number: a subnormal one has few digits, whatever computes it.
    size = expected.abs().clamp_(min=torch.finfo(observed.dtype).tiny)
    return {
        "absolute": absolute,
        "excess": absolute - nearest,
        "relative": absolute / size,
        "ulp": absolute / units(expected, observed.dtype),
    }


def _outside_windows(x: Tensor, roots: tuple[float, ...]) -> Tensor | None:
    """Say which points are not near a root, None if all are not."""
    near = torch.zeros_like(x, dtype=torch.bool)
    for root in roots:
        near |= (x.double() - root).abs() < WINDOW
    return ~near if bool(near.any()) else None


def _row() -> dict[str, Any]:
    return {"absolute": 0.0, "relative": 0.0, "ulp": 0.0, "x": None}


def _take_overall(found: dict[str, Any], measured: dict[str, Tensor]) -> None:
    for name in ("absolute", "excess"):
        found[f"max_{name}"] = max(found[f"max_{name}"], measured[name].max().item())


def _take_near_root(
    row: dict[str, Any], x: Tensor, measured: dict[str, Tensor], near: Tensor
) -> None:
    worst, index = measured["absolute"][near].max(0)
    if row["x"] is None or worst.item() > row["absolute"]:
        row |= {"absolute": worst.item(), "x": x[near][index].item()}


def _take_region(row: dict[str, Any], x: Tensor, measured: dict[str, Tensor]) -> None:
    if not x.numel():
        return
    worst, index = measured["ulp"].max(0)
    if row["x"] is None or worst.item() > row["ulp"]:
        row["x"] = x[index].item()
    for name in ("absolute", "relative", "ulp"):
        row[name] = max(row[name], measured[name].max().item())
