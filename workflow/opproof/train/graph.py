"""Engine graph: the data resident on the device, no loader, the loss read once an epoch."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from opproof import mnist
from opproof.lenet import LeNet5

# Test images at once: what a CPU's cache can hold.
_PREDICTED_AT_ONCE = 1000


class GraphEngine:
    """Trains and predicts on data that is copied to the device once, for all runs of a job."""

    def __init__(self, folder: Path, batch_size: int, device: torch.device) -> None:
        self.batch_size = batch_size
        self.images = _scaled(mnist.read(folder, mnist.TRAIN_IMAGES)).to(device)
        self.labels = torch.from_numpy(mnist.read(folder, mnist.TRAIN_LABELS)).long().to(device)
        self.test_images = _scaled(mnist.read(folder, mnist.TEST_IMAGES)).to(device)

    def train_epoch(self, model: LeNet5, optimizer: torch.optim.Optimizer, order: Tensor) -> Tensor:
        """Take one step per batch; return the loss of each, float32 [steps], on the CPU."""
        batches = order.to(self.images.device).split(self.batch_size)
        losses = torch.empty(len(batches), device=self.images.device)
        for step, batch in enumerate(batches):
            loss = F.cross_entropy(model(self.images[batch]), self.labels[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses[step] = loss.detach()
        return losses.cpu()

    @torch.no_grad()
    def predict(self, model: LeNet5) -> Tensor:
        """Return the class predicted for each test image, int64 [10000], on the CPU."""
        parts = self.test_images.split(_PREDICTED_AT_ONCE)
        return torch.cat([model(part).argmax(dim=1) for part in parts]).cpu()


def _scaled(images: np.ndarray) -> Tensor:
    """Return uint8 images [n, 28, 28] as ToTensor does: float32 [n, 1, 28, 28] in [0, 1]."""
    return torch.from_numpy(images).unsqueeze(1).float().div(255)
