"""What gates: the checks that refuse a backend, by name, in the order in which they are shown."""

from collections.abc import Iterator
from typing import Any

import torch

from opproof.operators import Activation
from opproof.verify import checks, gpu, inputs, pooled, registered, repeat
from opproof.verify.accuracy import name_of
from opproof.verify.evaluation import DIRECTIONS
from opproof.verify.points import DTYPES
from opproof.verify.truth import Truth
from opproof.verify.yardstick import Yardstick


def limits(own: dict[str, Any], truth: Truth, dtype: torch.dtype) -> dict[str, float]:
    """Return what a dtype's results may be off by, per direction, beside the yardstick's errors."""
    errors = own.get(name_of(dtype))
    return {direction: checks.limit(errors, truth, dtype, direction) for direction in DIRECTIONS}


def of_activation(
    activation: Activation,
    yardstick: Yardstick,
    observed: dict[str, Any],
    own: dict[str, Any],
    max_ulp: float | None,
    device: torch.device,
) -> Iterator[tuple[str, str | None]]:
    """Yield each gate's name, and what is wrong or None.

    `observed` holds the dtypes supported, `own` the yardstick's errors.
    """
    dtypes, truth = supported(observed), yardstick.truth
    for dtype in dtypes:
        name, allowed = name_of(dtype), limits(own, truth, dtype)
        for direction, limit in allowed.items():
            fault = checks.close_to_truth(observed[name], dtype, direction, limit)
            yield f"{direction} {name}", fault
        yield f"any layout {name}", checks.any_layout(activation, truth, dtype, allowed, device)
    if max_ulp is not None:
        yield "claim max_ulp", checks.claim(observed["float32"], max_ulp)
    faults = (checks.keeps_nan(activation, yardstick.activation, dtype, device) for dtype in dtypes)
    yield "NaN propagates", next(filter(None, faults), None)
    yield "gradcheck", checks.gradcheck(activation, device)
    yield "gradgradcheck", checks.gradgradcheck(activation, device)
    if registered.is_registered(activation):
        everything = (x for dtype in dtypes for x in inputs.layouts(dtype, device))
        yield "opcheck", registered.opcheck(activation, everything)
    x = torch.linspace(-12, 12, 10_007).to(device)
    yield "repeatable", repeat.repeatable(activation, x)
    if device.type == "cuda":
        yield "device", gpu.stays_on_device(activation, x)
        yield "side stream", gpu.side_stream(activation, x)
        yield "CUDA graph", gpu.cuda_graph(activation, x)


def of_pooled(
    operator: Activation, yardstick: Yardstick, observed: dict[str, Any], device: torch.device
) -> Iterator[tuple[str, str | None]]:
    """Yield the same of activation, pool and activation in one, for the activation's dtypes."""
    yield from pooled.gates(operator, yardstick, supported(observed), device)


def supported(observed: dict[str, Any]) -> tuple[torch.dtype, ...]:
    """Return the dtypes that errors were measured for."""
    return tuple(dtype for dtype in DTYPES if name_of(dtype) in observed)
