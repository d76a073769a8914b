"""LeNet-5 as the textbook has it, and what a seed determines: initial weights and sample order."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from opproof.operators import Activation

# Weights and biases of the network.
PARAMETERS = 44_426


class LeNet5(nn.Module):
    """Two convolutions, two average pools, three linear layers; activations between all of them.

    Takes images [batch, 1, 28, 28], returns logits [batch, 10]. `pooled` is activation, pool and
    activation in one, in place of the three.
    """

    def __init__(self, activation: Activation, pooled: Activation | None = None) -> None:
        super().__init__()
        self.activation = activation
        self.pooled = pooled
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.pool = nn.AvgPool2d(2)
        self.fc1 = nn.Linear(256, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, images: Tensor) -> Tensor:
        activation = self.activation
        pooled = self.pooled or self._pooled
        x = pooled(self.conv1(images))
        x = pooled(self.conv2(x))
        x = x.flatten(1)
        x = activation(self.fc1(x))
        x = activation(self.fc2(x))
        return self.fc3(x)

    def _pooled(self, x: Tensor) -> Tensor:
        return self.activation(self.pool(self.activation(x)))


def initial_model(seed: int, activation: Activation, pooled: Activation | None = None) -> LeNet5:
    """Return the network, on the CPU, with the weights that the seed determines."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_stream(seed, 0))
        return LeNet5(activation, pooled)


def initial_parameters(seeds: Sequence[int]) -> Tensor:
    """Return the weights that each seed determines, float32 [seeds, 44426], on the CPU.

    In the order of LeNet5.parameters(), each parameter row by row.
    """
    models = (initial_model(seed, nn.Identity()) for seed in seeds)
    return torch.stack([parameters_to_vector(model.parameters()).detach() for model in models])


def nudged(parameters: Tensor, seeds: Sequence[int]) -> Tensor:
    """Return each value moved to a neighbouring float, up or down as its seed determines.

    Of float32 [seeds, parameters]: the least difference that a run can begin with.
    """
    generators = (torch.Generator().manual_seed(_stream(seed, 2)) for seed in seeds)
    bits = [
        torch.randint(2, row.shape, generator=generator)
        for row, generator in zip(parameters, generators, strict=True)
    ]
    towards = torch.where(torch.stack(bits) == 1, torch.inf, -torch.inf)
    return parameters.nextafter(towards)


def sample_orders(seed: int, samples: int) -> Iterator[Tensor]:
    """Yield, epoch by epoch, the permutation (int64, [samples]) that the seed determines."""
    generator = torch.Generator().manual_seed(_stream(seed, 1))
    while True:
        yield torch.randperm(samples, generator=generator)


def _stream(seed: int, stream: int) -> int:
    """Return the seed of one of a run's independent random streams."""
    return int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])
