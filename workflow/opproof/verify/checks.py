"""The checks that gate: a backend that fails one of them is refused.

Each check returns None, or what is wrong in one line.
"""

from typing import Any

import torch
from torch import Tensor

from opproof.operators import Activation
from opproof.verify import accuracy


def close_to_truth(
    observed: dict[str, Any], baseline: dict[str, Any], dtype: torch.dtype, direction: str
) -> str | None:
    """Hold the largest absolute error against max(4 eps, twice F.gelu's own), as measured here."""
    error = observed[direction]["max_absolute"]
    limit = max(4 * torch.finfo(dtype).eps, 2 * baseline[direction]["max_absolute"])
    if error <= limit:
        return None
    return f"the largest absolute error is {error:.3g}, above {limit:.3g}"


def gradcheck(activation: Activation, device: torch.device) -> str | None:
    """Hold the derivative against finite differences, in float64."""
    return _raised(torch.autograd.gradcheck, activation, (_samples(device),))


def gradgradcheck(activation: Activation, device: torch.device) -> str | None:
    """Hold the second derivative against finite differences, in float64."""
    return _raised(torch.autograd.gradgradcheck, activation, (_samples(device),))


def opcheck(activation: Activation, device: torch.device) -> str | None:
    """Run torch.library.opcheck on a registered operator, for the layouts a model may pass."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 4, 5, generator=generator).to(device)
    for layout in (
        images,
        images.to(memory_format=torch.channels_last),
        images.transpose(1, 3),
        images[..., ::2],
        images[:, :1].expand(2, 3, 4, 5),
        images[0, 0, 0, 0],
        images[:0],
    ):
        fault = _raised(torch.library.opcheck, activation, (layout.detach().requires_grad_(),))
        if fault:
            return f"shape {tuple(layout.shape)}, strides {layout.stride()}: {fault}"
    return None


def repeatable(activation: Activation, device: torch.device) -> str | None:
    """Compare two evaluations bit by bit."""
    x = torch.linspace(-12, 12, 10_007, device=device)
    first, second = accuracy.evaluate(activation, x), accuracy.evaluate(activation, x)
    for direction in accuracy.DIRECTIONS:
        differing = int((_bits(first[direction]) != _bits(second[direction])).sum())
        if differing:
            return f"{direction}: {differing} of {len(x)} results differ between two calls"
    return None


def _bits(values: Tensor) -> Tensor:
    """View float32 as integers, so that NaN equals NaN and -0.0 does not equal 0.0."""
    return values.contiguous().view(torch.int32)


def _samples(device: torch.device) -> Tensor:
    x = torch.linspace(-6, 6, 25, dtype=torch.float64, device=device)
    return x.requires_grad_()


def _raised(check: Any, *arguments: Any) -> str | None:
    """Return the first line of what the check raises, None if it raises nothing."""
    try:
        check(*arguments)
    except Exception as error:  # the operator is somebody's code: whatever it raises is the finding
        return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
    return None
