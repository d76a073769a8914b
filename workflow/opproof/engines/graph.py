"""Engine graph: data resident on the device; on a GPU whole steps, captured in CUDA graphs."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from opproof import mnist
from opproof.engines import nadam
from opproof.engines.captured import Captured, warm_up
from opproof.lenet import LeNet5
from opproof.operators import Activation
from opproof.settings import Training

# A launch of a graph costs what some kernels do; capturing costs start-up, about 5 ms a step.
_STEPS_IN_A_GRAPH = 32

# Of a CPU: about a second of steps, and test images at once that its cache can hold.
_STEPS_ON_A_CPU = 128
_PREDICTED_ON_A_CPU = 250


class GraphEngine:
    """Trains one seed at a time on data that is copied to the device once, for all of a job."""

    seeds_at_once = 1

    def __init__(
        self,
        folder: Path,
        training: Training,
        activation: Activation,
        pooled: Activation | None,
        device: torch.device,
    ) -> None:
        self.device = device
        self.images = _scaled(mnist.read(folder, mnist.TRAIN_IMAGES)).to(device)
        self.labels = torch.from_numpy(mnist.read(folder, mnist.TRAIN_LABELS)).long().to(device)
        self.test_images = _scaled(mnist.read(folder, mnist.TEST_IMAGES)).to(device)
        self._batch_size = training.batch_size
        self._steps_of_epoch = mnist.steps_per_epoch(training.batch_size)
        on_gpu = device.type == "cuda"
        self.batches_at_once = self._steps_of_epoch if on_gpu else _STEPS_ON_A_CPU
        self._predicted_at_once = len(self.test_images) if on_gpu else _PREDICTED_ON_A_CPU

        self._model = LeNet5(activation, pooled).to(device)
        self._parameters = parameters_to_vector(self._model.parameters()).detach()
        vector_to_parameters(self._parameters, self._model.parameters())  # makes views of it
        self._first_moments = torch.zeros_like(self._parameters)
        self._second_moments = torch.zeros_like(self._parameters)
        self._steps = 0
        steps = training.epochs * self._steps_of_epoch
        self._schedule = nadam.schedule(steps, training.learning_rate).to(device)
        self._captured: dict[tuple[int, int], Captured] = {}

    def begin(self, parameters: Tensor) -> None:
        """Take the initial weights of a seed, float32 [1, 44426]."""
        self._parameters.copy_(parameters.squeeze(0))
        self._first_moments.zero_()
        self._second_moments.zero_()
        self._steps = 0

    def resume(self, states: Sequence[dict[str, Any]]) -> None:
        """Take what `state` has returned."""
        (state,) = states
        for tensor, content in zip(self._changed, state["tensors"], strict=True):
            tensor.copy_(content)
        self._steps = state["steps"]

    def state(self, index: int) -> dict[str, Any]:
        """Return parameters and moments, copied to the CPU."""
        tensors = [tensor.to("cpu", copy=True) for tensor in self._changed]
        return {"tensors": tensors, "steps": self._steps}

    def train(self, orders: Tensor) -> Tensor:
        """Take a step for each batch; return the losses, float32 [1, steps], on the device."""
        (order,) = orders.to(self.device)
        steps = -(-len(order) // self._batch_size)
        rows = self._schedule[self._steps : self._steps + steps]
        self._steps += steps
        if self.device.type == "cuda":
            return torch.cat([*self._replays(order, rows)]).unsqueeze(0)
        return self._take_steps(order, rows).unsqueeze(0)

    def are_finite(self) -> Tensor:
        """Return whether all weights are finite, bool [1], on the CPU."""
        return self._parameters.isfinite().all().unsqueeze(0).cpu()

    @torch.no_grad()
    def predict(self) -> Tensor:
        """Return the class predicted for each test image, int64 [1, 10000], on the CPU."""
        parts = self.test_images.split(self._predicted_at_once)
        classes = torch.cat([self._model(part).argmax(dim=1) for part in parts])
        return classes.unsqueeze(0).cpu()

    @property
    def _changed(self) -> tuple[Tensor, Tensor, Tensor]:
        return self._parameters, self._first_moments, self._second_moments

    def _take_steps(self, order: Tensor, rows: Tensor) -> Tensor:
        """Train on the batches of `order`; return their losses."""
        weights = list(self._model.parameters())
        losses = []
        for batch, row in zip(order.split(self._batch_size), rows, strict=True):
            # Copies rows; indexing by a tensor goes value by value, which takes ten times as long.
            images, labels = self.images.index_select(0, batch), self.labels.index_select(0, batch)
            loss = F.cross_entropy(self._model(images), labels)
            gradients = torch.autograd.grad(loss, weights)
            gradient = torch.cat([gradient.flatten() for gradient in gradients])
            nadam.step(*self._changed, gradient, row)
            losses.append(loss.detach())
        return torch.stack(losses)

    def _replays(self, order: Tensor, rows: Tensor) -> Iterator[Tensor]:
        """Yield the losses of graph after graph; the last has the steps that are left over."""
        samples = _STEPS_IN_A_GRAPH * self._batch_size
        for part, of_part in zip(order.split(samples), rows.split(_STEPS_IN_A_GRAPH), strict=True):
            shape = (len(part), len(of_part))
            if shape not in self._captured:
                warm_up(partial(self._take_steps, part, of_part), self._changed)
                self._captured[shape] = Captured(self._take_steps, (part, of_part))
            yield self._captured[shape](part, of_part).clone()


def _scaled(images: np.ndarray) -> Tensor:
    """Return uint8 images [n, 28, 28] as ToTensor does: float32 [n, 1, 28, 28] in [0, 1]."""
    return torch.from_numpy(images).unsqueeze(1).float().div(255)
