"""What is timed: the shapes and values that an operator is given."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SIZES = (64, 512, 4096, 8192, 32_768, 100_000, 1_000_000)
LARGE_SIZES = (10_000_000, 100_000_000)

# What LeNet-5 gives its activations, and its pools, without the batch.
_LENET = ((6, 24, 24), (6, 12, 12), (16, 8, 8), (16, 4, 4), (120,), (84,))
_BEFORE_POOLS = ((6, 24, 24), (16, 8, 8))
_BATCHES = (64, 256)
_GPU_BATCH = 4096

ACTIVATION, POOLED = "activation", "pooled"

# At most so many rounds from so many elements on: a call takes longer than a block there.
FEWER_ROUNDS = {5_000_000: 21, 50_000_000: 9}
_TENSORS_NEEDED = 16  # alive at once, in the textbook's backward: 12 at most, and some room


@dataclass(frozen=True)
class Case:
    """An input: its shape and its values, "normal" (N(0, 1)) or "in [-20, -14]" (uniform)."""

    operation: str  # ACTIVATION or POOLED
    shape: tuple[int, ...]
    values: str = "normal"

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes_needed(self) -> int:
        """Return the memory that a comparison takes at most, in bytes."""
        return _TENSORS_NEEDED * self.elements * torch.float32.itemsize

    def described(self) -> dict[str, Any]:
        """Return what identifies the case in the record."""
        return {"operation": self.operation, "shape": list(self.shape), "values": self.values}

    def rounds(self, rounds: int) -> int:
        """Return the rounds for this case where others have `rounds`."""
        return min([rounds, *(most for n, most in FEWER_ROUNDS.items() if self.elements >= n)])

    def input(self, where: torch.device) -> Tensor:
        """Return the same float32 values every time."""
        generator = torch.Generator().manual_seed(0)
        if self.values == "normal":
            return torch.randn(self.shape, generator=generator).to(where)
        low, high = VERY_NEGATIVE
        return torch.empty(self.shape).uniform_(low, high, generator=generator).to(where)


# Where results are denormal or nearly so: some implementations are 150 times slower there
# (pytorch/pytorch#48388).
VERY_NEGATIVE = (-20, -14)
VERY_NEGATIVE_SIZE = 100_000


def plan(where: torch.device, large: bool, pooled: bool) -> list[Case]:
    """Return the cases in order, with the large sizes and the pooled operation if wanted."""
    sizes = [*SIZES, *(LARGE_SIZES if large else ())]
    cases = [Case(ACTIVATION, (size,)) for size in sizes]
    cases += [Case(ACTIVATION, (VERY_NEGATIVE_SIZE,), f"in {list(VERY_NEGATIVE)}")]
    cases += [Case(ACTIVATION, (batch, *shape)) for batch in _BATCHES for shape in _LENET]
    if pooled:
        cases += [Case(POOLED, (batch, *shape)) for batch in _BATCHES for shape in _BEFORE_POOLS]
    if pooled and where.type == "cuda":
        cases += [Case(POOLED, (_GPU_BATCH, *_BEFORE_POOLS[0]))]
    return cases
