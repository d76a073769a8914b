"""Findings on equal bits: whatever the threads, the alignment, the layout, the instruction set."""

from collections.abc import Iterator

import torch
from torch import Tensor

from opproof.operators import Activation
from opproof.verify import registered
from opproof.verify.evaluation import DIRECTIONS, difference, evaluate
from opproof.verify.outcome import Finding, finding

# torch splits work among threads from 32,768 values on; odd, so that the parts are uneven.
_LARGE = 300_007
_THREADS = (2, 3, 4)

# What `use_isa` of an operator's namespace takes: the highest instruction set to use.
_LEVELS = ("baseline", "AVX2", "AVX-512")
_AS_THE_MACHINE = -1


@finding
def thread_counts(activation: Activation, device: torch.device) -> Finding:
    """Compare what one thread and several compute, in float32."""
    if device.type != "cpu":
        return Finding(None, "threads are the CPU's")
    x = _line(_LARGE, device)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = evaluate(activation, x)
        for count in _THREADS:
            torch.set_num_threads(count)
            words = f"results differ between 1 thread and {count}"
            if fault := difference(alone, evaluate(activation, x), words):
                return Finding(False, fault)
    finally:
        torch.set_num_threads(before)
    return Finding(True)


@finding
def alignment(activation: Activation, device: torch.device) -> Finding:
    """Compare a slice that starts anywhere with its aligned copy."""
    base = _line(1000, device)
    for offset in range(1, 17):
        x = base[offset:]
        aligned = evaluate(activation, x.clone())
        words = f"results differ for x[{offset}:] from an aligned copy's"
        if fault := difference(aligned, evaluate(activation, x), words):
            return Finding(False, fault)
    return Finding(True)


@finding
def layout(activation: Activation, device: torch.device) -> Finding:
    """Compare the same values in every layout, and one by one."""
    images = _line(2 * 3 * 8 * 16, device).reshape(2, 3, 8, 16)
    contiguous = _gathered(activation, [images])
    faults = [
        difference(contiguous, _gathered(activation, parts), f"results differ {words}")
        for words, parts in _arrangements(images)
    ]
    details = [fault for fault in faults if fault]
    return Finding(not details, "; ".join(details) or None)


@finding
def instruction_sets(activation: Activation, device: torch.device) -> Finding:
    """Each instruction set that the machine has gives the same bits, where one can be chosen."""
    if device.type != "cpu":
        return Finding(None, "instruction sets are the CPU's")
    use_isa = None
    if registered.is_registered(activation):
        namespace = registered.qualified_name(activation).partition("::")[0]
        use_isa = getattr(getattr(torch.ops, namespace), "use_isa", None)
    if use_isa is None:
        return Finding(None, "its namespace has no operator use_isa(int level) -> int")
    x = _line(10_007, device)
    compared = []
    try:
        highest = use_isa(_AS_THE_MACHINE)
        expected = evaluate(activation, x)
        for level in range(highest):
            if use_isa(level) == level:
                words = f"results differ between {_LEVELS[level]} and {_LEVELS[highest]}"
                if fault := difference(expected, evaluate(activation, x), words):
                    return Finding(False, fault)
                compared.append(_LEVELS[level])
    finally:
        use_isa(_AS_THE_MACHINE)
    if not compared:
        return Finding(None, f"this machine has but one, {_LEVELS[highest]}")
    return Finding(True, f"{', '.join(compared)} and {_LEVELS[highest]}")


def _arrangements(images: Tensor) -> Iterator[tuple[str, list[Tensor]]]:
    """Yield layouts in words, and tensors that together hold the values of the images."""
    yield "in channels_last", [images.to(memory_format=torch.channels_last)]
    wide = torch.zeros(*images.shape[:-1], 2 * images.shape[-1], device=images.device)
    wide[..., ::2] = images
    yield "with gaps", [wide[..., ::2]]
    yield "for each image alone", [*images.split(1)]
    yield "for each value alone", [*images.flatten().split(1)]


def _gathered(activation: Activation, parts: list[Tensor]) -> dict[str, Tensor]:
    """Return the results of all parts in one vector, in the order of the images' values."""
    results = [evaluate(activation, part) for part in parts]
    return {
        direction: torch.cat([result[direction].flatten() for result in results])
        for direction in DIRECTIONS
    }


def _line(size: int, device: torch.device) -> Tensor:
    return torch.linspace(-12, 12, size).to(device)
