"""What lenet_step's operators are held against: torch's own LeNet-5 and NAdam, seed by seed."""

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from opproof.lenet import LeNet5, initial_model

LEARNING_RATE = 3e-3
IMAGES = 2000

# Of the distance that the parameters have moved, by tf32.
LIMITS = {False: 2e-5, True: 1e-2}


@dataclass(frozen=True)
class Trained:
    """Parameters [seeds, 44426] and losses [seeds, steps] after an order's steps."""

    initial: Tensor
    order: Tensor
    parameters: Tensor
    losses: Tensor

    def distance(self, parameters: Tensor) -> float:
        """Return the largest distance from these parameters to a seed's, of what it has moved."""
        apart = (parameters - self.parameters).norm(dim=1)
        return float((apart / (self.parameters - self.initial).norm(dim=1)).max())


@functools.cache
def images() -> tuple[Tensor, Tensor]:
    """Return images [n, 784] and labels [n] as uint8: strokes on black, of a class's own kind."""
    generator = torch.Generator().manual_seed(0)
    waves = F.avg_pool2d(torch.randn(10, 1, 38, 38, generator=generator), 11, stride=1)[:, 0]
    labels = torch.randint(0, 10, (IMAGES,), generator=generator)
    noise = torch.rand(IMAGES, 28, 28, generator=generator)
    strokes = waves[labels] > 0.08 + 0.05 * (noise - 0.5)
    return (255 * (0.5 + 0.5 * noise) * strokes).to(torch.uint8).view(-1, 784), labels.byte()


@functools.cache
def trained(seeds: int, samples: int, batch_size: int) -> Trained:
    """Train each seed by torch in FP32."""
    generator = torch.Generator().manual_seed(1)
    orders = [torch.randperm(IMAGES, generator=generator)[:samples] for _ in range(seeds)]
    models = [initial_model(seed, F.gelu) for seed in range(seeds)]
    initial = torch.stack([parameters_to_vector(model.parameters()) for model in models])
    losses = [_train(*pair, batch_size) for pair in zip(models, orders, strict=True)]
    final = torch.stack([parameters_to_vector(model.parameters()) for model in models])
    order = torch.stack(orders).to(torch.int32)
    return Trained(initial.detach(), order, final.detach(), torch.tensor(losses))


def _train(model: LeNet5, order: Tensor, batch_size: int) -> list[float]:
    pixels, labels = images()
    optimizer = torch.optim.NAdam(model.parameters(), lr=LEARNING_RATE)
    losses = []
    for batch in order.split(batch_size):
        optimizer.zero_grad()
        logits = model(pixels[batch].view(-1, 1, 28, 28).float() / 255)
        loss = F.cross_entropy(logits, labels[batch].long())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def logits(seed: int, count: int) -> Tensor:
    """Return the logits of the first images by the seed's initial network."""
    pixels = images()[0][:count].view(-1, 1, 28, 28).float() / 255
    return initial_model(seed, F.gelu)(pixels)
