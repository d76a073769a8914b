"""What is shown of an activation and refuses nothing: each property, whether it holds, and why."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch

from opproof.operators import Activation
from opproof.verify import composition, properties, same_bits, specials
from opproof.verify.accuracy import name_of
from opproof.verify.outcome import Finding
from opproof.verify.points import DTYPES, NARROW
from opproof.verify.truth import Truth


def collect(
    activation: Activation,
    truth: Truth,
    unsupported: dict[str, str],
    limits: dict[str, float],
    device: torch.device,
) -> dict[str, dict[str, Any]]:
    """Return {"holds": bool or None, "detail": text or None} for each property, in order.

    None, with the reason, is what was not checked. `unsupported` says what the activation raised
    for a 16-bit dtype, `limits` what its float32 results may be off by, per direction.
    """
    found = _findings(activation, truth, unsupported, limits, device)
    return {name: asdict(finding) for name, finding in found}


def _findings(
    activation: Activation,
    truth: Truth,
    unsupported: dict[str, str],
    limits: dict[str, float],
    device: torch.device,
) -> Iterator[tuple[str, Finding]]:
    dtypes = [dtype for dtype in DTYPES if name_of(dtype) not in unsupported]
    for dtype in NARROW:
        reason = unsupported.get(name_of(dtype))
        yield name_of(dtype), Finding(not reason, f"not supported: {reason}" if reason else None)
    yield "zeros", specials.zeros(activation, truth, dtypes, device)
    yield "infinities", specials.infinities(activation, truth, dtypes, device)
    yield "subnormal numbers", specials.subnormals(activation, truth, dtypes, device)
    yield "largest numbers", specials.largest(activation, truth, dtypes, device)
    if properties.has_gate(truth):
        yield "f(x) - f(-x) = x", properties.odd_part(activation, device)
        yield "f'(x) + f'(-x) = 1", properties.derivative_sum(activation, device)
    yield "monotone", properties.monotone(activation, truth, device)
    yield "torch.compile", composition.compiles(activation, limits, device)
    yield "vmap", composition.vmap(activation, device)
    yield "autocast", composition.autocast(activation, dtypes, device)
    yield "equal bits, threads", same_bits.thread_counts(activation, device)
    yield "equal bits, alignment", same_bits.alignment(activation, device)
    yield "equal bits, layout", same_bits.layout(activation, device)
    yield "equal bits, instruction sets", same_bits.instruction_sets(activation, device)
