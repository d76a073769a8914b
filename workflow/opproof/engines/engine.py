"""What an engine is: how the runs of a backend are trained, one or several at once."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class Engine(Protocol):
    """Trains the seeds that it was given last; see reference.py, graph.py and kernel.py.

    What a seed gives does not depend on those beside it.
    """

    @property
    def device(self) -> torch.device:
        """Where it trains."""
        ...

    @property
    def seeds_at_once(self) -> int:
        """How many it trains together, at most."""
        ...

    @property
    def batches_at_once(self) -> int:
        """How many one call of `train` should get: what takes about a second, or an epoch."""
        ...

    def begin(self, parameters: Tensor) -> None:
        """Take the initial weights of other seeds, float32 [seeds, 44426] as in lenet.py."""
        ...

    def resume(self, states: Sequence[dict[str, Any]]) -> None:
        """Take what `state` has returned for other seeds, all after the same number of steps."""
        ...

    def state(self, index: int) -> dict[str, Any]:
        """Return all that determines how a seed goes on, as copies on the CPU."""
        ...

    def train(self, orders: Tensor) -> Tensor:
        """Take a step for each batch of `orders`, int64 [seeds, samples]; the last may be smaller.

        Returns the losses, float32 [seeds, steps], on the device; nothing waits for them.
        """
        ...

    def are_finite(self) -> Tensor:
        """Return for each seed whether all its weights are finite, bool [seeds], on the CPU."""
        ...

    def predict(self) -> Tensor:
        """Return the class predicted for each test image, int64 [seeds, 10000], on the CPU."""
        ...
