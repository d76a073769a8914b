"""Engine reference: the textbook's loop, with DataLoader, ToTensor, .to(device) and .item()."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from opproof import mnist
from opproof.lenet import LeNet5


class IdxMnist(MNIST):
    """torchvision's MNIST, reading the four files straight from a folder of the data stage."""

    @property
    def raw_folder(self) -> str:
        """The folder of the four files."""
        return str(self.root)


class ReferenceEngine:
    """Trains and predicts as the textbook does; the order of the samples is given, not drawn."""

    def __init__(self, folder: Path, batch_size: int, device: torch.device) -> None:
        for file in mnist.FILES:
            mnist.read(folder, file)  # torchvision would take whatever is there
        self.device = device
        self.batch_size = batch_size
        self.train_set = IdxMnist(folder, train=True, transform=ToTensor())
        self.test_set = IdxMnist(folder, train=False, transform=ToTensor())

    def train_epoch(self, model: LeNet5, optimizer: torch.optim.Optimizer, order: Tensor) -> Tensor:
        """Take one step per batch; return the loss of each, float32 [steps], on the CPU."""
        loader: DataLoader = DataLoader(
            self.train_set, batch_size=self.batch_size, sampler=order.tolist()
        )
        criterion = nn.CrossEntropyLoss()
        losses = []
        for batch_images, batch_labels in loader:
            images, labels = batch_images.to(self.device), batch_labels.to(self.device)
            loss = criterion(model(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return torch.tensor(losses)

    @torch.no_grad()
    def predict(self, model: LeNet5) -> Tensor:
        """Return the class predicted for each test image, int64 [10000], on the CPU."""
        loader: DataLoader = DataLoader(self.test_set, batch_size=self.batch_size)
        classes = [model(images.to(self.device)).argmax(dim=1) for images, _ in loader]
        return torch.cat(classes).cpu()
