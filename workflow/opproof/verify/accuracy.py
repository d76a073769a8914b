"""How far an activation is from the truth: absolutely, relatively, in units in the last place."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from opproof.operators import Activation
from opproof.verify import truth

# Dense where it is cheap: float64 needs mpmath, at 0.1 ms a point.
_POINTS = {torch.float32: 1_000_001, torch.float64: 4_001}
_TRUTH: dict[torch.dtype, Callable[[np.ndarray], dict[str, np.ndarray]]] = {
    torch.float32: truth.of_float32,
    torch.float64: truth.of_float64,
}
DTYPES = tuple(_POINTS)
DIRECTIONS = ("forward", "backward")

# The textbook compares gradients on this many samples.
_TEXTBOOK_SAMPLES = 100


def errors(activation: Activation, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Return, per direction, the worst errors on [-12, 12]: over all, and by region of x.

    {"forward": {"max_absolute": ..., "regions": {"[0, 12]": {"absolute", "relative", "ulp"}, ...}},
    "backward": ...}; an error is infinite where the result is not finite.
    """
    x = torch.linspace(-truth.LIMIT, truth.LIMIT, _POINTS[dtype], dtype=dtype)
    expected = _TRUTH[dtype](x.numpy())
    observed = evaluate(activation, x.to(device, copy=True))
    return {
        direction: _by_region(x.numpy(), observed[direction].cpu().numpy(), expected[direction])
        for direction in DIRECTIONS
    }


def evaluate(activation: Activation, x: Tensor) -> dict[str, Tensor]:
    """Return the activation at x ("forward") and its derivative there ("backward").

    Raises TypeError where the result is no tensor, ValueError where its shape or dtype are not x's.
    """
    x = x.detach().requires_grad_()
    y = activation(x)
    if not isinstance(y, Tensor):
        raise TypeError(f"returns {type(y).__name__}, not a tensor")
    if y.shape != x.shape or y.dtype != x.dtype:
        raise ValueError(
            f"returns {y.dtype} of shape {tuple(y.shape)} for {x.dtype} of shape {tuple(x.shape)}"
        )
    (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
    return {"forward": y.detach(), "backward": gradient}


def gradient_mse(activation: Activation, device: torch.device) -> float:
    """Return the textbook's figure: mean squared difference between its gradients and F.gelu's.

    Gradients of an MSE loss at 100 normal samples, float32.
    """
    generator = torch.Generator().manual_seed(0)
    x, target = torch.randn(2, _TEXTBOOK_SAMPLES, generator=generator).to(device)
    gradients = []
    for function in (F.gelu, activation):
        leaf = x.clone().requires_grad_()
        loss = F.mse_loss(function(leaf), target)
        gradients.append(torch.autograd.grad(loss, leaf)[0])
    return F.mse_loss(*gradients).item()


def _by_region(x: np.ndarray, observed: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
    spacing = np.spacing(np.abs(expected).astype(x.dtype)).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        absolute = np.abs(observed.astype(np.float64) - expected)
        absolute[~np.isfinite(observed)] = math.inf
        measures = {
            "absolute": absolute,
            "relative": np.where(absolute == 0.0, 0.0, absolute / np.abs(expected)),
            "ulp": absolute / spacing,
        }
    regions = {}
    for low, high in truth.REGIONS:
        inside = (low <= x) & (x <= high)
        regions[f"[{low:g}, {high:g}]"] = {
            name: float(measure[inside].max()) for name, measure in measures.items()
        }
    return {"max_absolute": float(absolute.max()), "regions": regions}
