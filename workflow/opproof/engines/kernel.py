"""Engine kernel: whole steps of many seeds at once, hand-written for an activation's header."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from opproof import mnist
from opproof.engines import nadam
from opproof.engines.captured import Captured, warm_up
from opproof.lenet import PARAMETERS
from opproof.settings import Training

# So many fill a GPU for seconds, and a CPU core for a minute; their orders and states fit anywhere.
_SEEDS_ON_A_GPU = 264
_SEEDS_ON_A_CPU = 16

# Of a CPU: about a second of steps of a seed.
_STEPS_ON_A_CPU = 1024


class KernelEngine:
    """Trains seeds by the operators of csrc/lenet_step.{cpp,cu}, `library`, on resident data."""

    def __init__(
        self, folder: Path, training: Training, library: Any, tf32: bool, device: torch.device
    ) -> None:
        self.device = device
        self._library = library
        self._tf32 = tf32
        self._images = _flat(folder, mnist.TRAIN_IMAGES).to(device)
        self._labels = torch.from_numpy(mnist.read(folder, mnist.TRAIN_LABELS)).to(device)
        self._test_images = _flat(folder, mnist.TEST_IMAGES).to(device)
        self._batch_size = training.batch_size
        self._steps_of_epoch = mnist.steps_per_epoch(training.batch_size)
        self.seeds_at_once = _SEEDS_ON_A_GPU if device.type == "cuda" else _SEEDS_ON_A_CPU
        steps = training.epochs * self._steps_of_epoch
        self._schedule = nadam.schedule(steps, training.learning_rate).to(device)
        self._take(torch.empty(0, PARAMETERS))

    @property
    def batches_at_once(self) -> int:
        """An epoch on a GPU; on a CPU about a second of all the seeds together."""
        if self.device.type == "cuda":
            return self._steps_of_epoch
        return max(1, _STEPS_ON_A_CPU // max(1, len(self._parameters)))

    def begin(self, parameters: Tensor) -> None:
        """Take the initial weights of these seeds, float32 [seeds, 44426]."""
        self._take(parameters)

    def resume(self, states: Sequence[dict[str, Any]]) -> None:
        """Take what `state` has returned for these seeds."""
        of_seeds = zip(*(state["tensors"] for state in states), strict=True)
        self._take(*map(torch.stack, of_seeds))
        self._steps = states[0]["steps"]

    def state(self, index: int) -> dict[str, Any]:
        """Return a seed's parameters and moments, copied to the CPU."""
        tensors = [tensor[index].to("cpu", copy=True) for tensor in self._changed]
        return {"tensors": tensors, "steps": self._steps}

    def train(self, orders: Tensor) -> Tensor:
        """Take a step for each batch; return the losses, float32 [seeds, steps], on the device."""
        orders = orders.to(self.device, torch.int32)
        steps = -(-orders.shape[1] // self._batch_size)
        rows = self._schedule[self._steps : self._steps + steps]
        self._steps += steps
        if self.device.type != "cuda":
            return self._take_steps(orders, rows)
        if orders.shape[1] not in self._captured:
            first_batch = orders[:, : self._batch_size].contiguous()
            warm_up(partial(self._take_steps, first_batch, rows[:1]), self._changed)
            self._captured[orders.shape[1]] = Captured(self._take_steps, (orders, rows))
        return self._captured[orders.shape[1]](orders, rows).clone()

    def are_finite(self) -> Tensor:
        """Return for each seed whether all its weights are finite, bool [seeds], on the CPU."""
        return self._parameters.isfinite().all(dim=1).cpu()

    def predict(self) -> Tensor:
        """Return the class predicted for each test image, int64 [seeds, 10000], on the CPU."""
        return self._library.predict(self._test_images, self._parameters).long().cpu()

    @property
    def _changed(self) -> tuple[Tensor, Tensor, Tensor]:
        return self._parameters, self._first_moments, self._second_moments

    def _take(
        self, parameters: Tensor, first: Tensor | None = None, second: Tensor | None = None
    ) -> None:
        """Go on with these parameters and moments, [seeds, 44426], after no step at all."""
        contents = (
            parameters,
            torch.zeros_like(parameters) if first is None else first,
            torch.zeros_like(parameters) if second is None else second,
        )
        self._parameters, self._first_moments, self._second_moments = (
            content.to(self.device) for content in contents
        )
        self._captured: dict[int, Captured] = {}  # by samples; of these very tensors
        self._steps = 0

    def _take_steps(self, orders: Tensor, rows: Tensor) -> Tensor:
        losses = torch.empty(len(orders), len(rows), device=self.device)
        self._library.train(
            self._images,
            self._labels,
            orders,
            rows,
            *self._changed,
            losses,
            self._batch_size,
            self._tf32,
        )
        return losses


def _flat(folder: Path, file: mnist.IdxFile) -> Tensor:
    """Return the images as uint8 [n, 784]."""
    return torch.from_numpy(mnist.read(folder, file)).flatten(1)
