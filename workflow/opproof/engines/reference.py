"""Engine reference: the textbook's loop, with DataLoader, ToTensor, .to(device) and .item()."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from opproof import mnist
from opproof.lenet import PARAMETERS, LeNet5
from opproof.operators import Activation
from opproof.settings import Training

# About a second of steps.
_STEPS = 128


class IdxMnist(MNIST):
    """torchvision's MNIST, reading the four files straight from a folder of the data stage."""

    @property
    def raw_folder(self) -> str:
        """The folder of the four files."""
        return str(self.root)


class ReferenceEngine:
    """Trains and predicts as the textbook does; the order of the samples is given, not drawn."""

    seeds_at_once = 1
    batches_at_once = _STEPS

    def __init__(
        self,
        folder: Path,
        training: Training,
        activation: Activation,
        pooled: Activation | None,
        device: torch.device,
    ) -> None:
        for file in mnist.FILES:
            mnist.read(folder, file)  # torchvision would take whatever is there
        self.device = device
        self.train_set = IdxMnist(folder, train=True, transform=ToTensor())
        self.test_set = IdxMnist(folder, train=False, transform=ToTensor())
        self._training = training
        self._activations = activation, pooled

    def begin(self, parameters: Tensor) -> None:
        """Take the initial weights of a seed, float32 [1, 44426]."""
        self._model = LeNet5(*self._activations)
        with torch.no_grad():
            weights = [*self._model.parameters()]
            parts = parameters.squeeze(0).split([weight.numel() for weight in weights])
            for weight, part in zip(weights, parts, strict=True):
                weight.copy_(part.view_as(weight))
        self._model.to(self.device)
        # foreach groups the parameters, which changes the last bits of torch's own results.
        self._optimizer = torch.optim.NAdam(
            self._model.parameters(), lr=self._training.learning_rate, foreach=False
        )

    def resume(self, states: Sequence[dict[str, Any]]) -> None:
        """Take what `state` has returned."""
        (state,) = states
        self.begin(torch.zeros(1, PARAMETERS))
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        # load_state_dict moves this one to the GPU, where NAdam would wait for it at every step.
        for of_parameter in self._optimizer.state.values():
            of_parameter["mu_product"] = of_parameter["mu_product"].cpu()

    def state(self, index: int) -> dict[str, Any]:
        """Return the states of model and optimizer, copied to the CPU."""
        state = {"model": self._model.state_dict(), "optimizer": self._optimizer.state_dict()}
        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        return torch.load(buffer, map_location="cpu", weights_only=True)

    def train(self, orders: Tensor) -> Tensor:
        """Take a step for each batch; return the losses, float32 [1, steps], on the CPU."""
        (order,) = orders
        loader: DataLoader = DataLoader(
            self.train_set, batch_size=self._training.batch_size, sampler=order.tolist()
        )
        criterion = nn.CrossEntropyLoss()
        self._model.train()
        losses = []
        for batch_images, batch_labels in loader:
            images, labels = batch_images.to(self.device), batch_labels.to(self.device)
            loss = criterion(self._model(images), labels)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            losses.append(loss.item())
        return torch.tensor([losses])

    def are_finite(self) -> Tensor:
        """Return whether all weights are finite, bool [1], on the CPU."""
        finite = all(bool(weight.isfinite().all()) for weight in self._model.parameters())
        return torch.tensor([finite])

    @torch.no_grad()
    def predict(self) -> Tensor:
        """Return the class predicted for each test image, int64 [1, 10000], on the CPU."""
        loader: DataLoader = DataLoader(self.test_set, batch_size=self._training.batch_size)
        self._model.eval()
        classes = [self._model(images.to(self.device)).argmax(dim=1) for images, _ in loader]
        return torch.cat(classes).unsqueeze(0).cpu()
