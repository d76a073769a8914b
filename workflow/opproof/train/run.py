"""One run: a function of backend, seed and settings, that survives being killed."""

import time
import traceback
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from opproof.lenet import LeNet5, initial_model, sample_orders
from opproof.mnist import TRAIN_LABELS
from opproof.operators import MACHINE_FAULTS, Activation
from opproof.settings import Training
from opproof.train.progress import Progress
from opproof.train.state import RunRecord, RunState

# Seconds. A checkpoint costs milliseconds and redoing an epoch seconds: not oftener than this.
_CHECKPOINT_INTERVAL = 10.0

# Seconds. An epoch may take milliseconds, as does this check on a shared file system.
_CHECK_INTERVAL = 1.0


class Engine(Protocol):
    """How an epoch is trained; see reference.py and graph.py."""

    def train_epoch(self, model: LeNet5, optimizer: torch.optim.Optimizer, order: Tensor) -> Tensor:
        """Take one step per batch; return the loss of each, float32 [steps], on the CPU."""
        ...

    def predict(self, model: LeNet5) -> Tensor:
        """Return the class predicted for each test image, int64 [10000], on the CPU."""
        ...


@dataclass
class History:
    """What a run has to show so far; see RunRecord."""

    losses: list[Tensor] = field(default_factory=list)  # one tensor [steps] an epoch
    accuracy: list[float] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    predictions: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def record(self, failure: str | None, final: bool = True) -> RunRecord:
        """Return it as the record of a run that has ended; see RunRecord for `final`."""
        arrays = {
            "loss": torch.cat([torch.empty(0), *self.losses]).numpy(),
            "accuracy": np.array(self.accuracy, dtype=np.float64),
            "predictions": self.predictions.to(torch.uint8).numpy(),
        }
        return RunRecord(failure, arrays, {"epoch_seconds": self.epoch_seconds}, final)


@dataclass(frozen=True)
class Trainer:
    """Trains runs of one backend, one after another, on data that the engine holds."""

    activation: Activation
    pooled: Activation | None
    training: Training
    engine: Engine
    test_labels: Tensor  # int64 [10000], on the CPU
    device: torch.device

    def train(self, seed: int, state: RunState, progress: Progress) -> RunRecord:
        """Train a seed from its last checkpoint, or from the start, to its end.

        A loss that is not finite, or an operator that raises, ends the run and is recorded.
        Raises UserError if a checkpoint can't be written, or another attempt has taken over.
        """
        history = History()
        try:
            failure = self._train(seed, state, history, progress)
        except MACHINE_FAULTS:
            raise
        except Exception as error:
            traceback.print_exc()
            return history.record(f"{type(error).__name__}: {error}".splitlines()[0], final=False)
        return history.record(failure)

    def _train(
        self, seed: int, state: RunState, history: History, progress: Progress
    ) -> str | None:
        model = initial_model(seed, self.activation, self.pooled).to(self.device)
        # foreach groups the parameters, which changes the last bits: off, alike in every engine.
        optimizer = torch.optim.NAdam(
            model.parameters(), lr=self.training.learning_rate, foreach=False
        )
        checkpoint = state.load_checkpoint()
        if checkpoint:
            _restore(checkpoint, model, optimizer, history)
        done = len(history.accuracy)
        saved_at = checked_at = time.monotonic()
        orders = sample_orders(seed, TRAIN_LABELS.shape[0])
        for epoch, order in zip(range(self.training.epochs), orders, strict=False):
            if epoch < done:
                continue
            failure = self._train_epoch(model, optimizer, order, history)
            if failure:
                return failure
            progress.epoch_done(
                seed, epoch + 1, float(history.losses[-1].mean()), history.accuracy[-1]
            )
            if time.monotonic() - checked_at >= _CHECK_INTERVAL:
                state.check()
                checked_at = time.monotonic()
            if time.monotonic() - saved_at >= _CHECKPOINT_INTERVAL:
                state.save_checkpoint(_checkpoint(model, optimizer, history))
                saved_at = time.monotonic()
        return None

    def _train_epoch(
        self, model: LeNet5, optimizer: torch.optim.Optimizer, order: Tensor, history: History
    ) -> str | None:
        """Train and evaluate; return what was not finite, if anything was."""
        start = time.perf_counter()
        model.train()
        losses = self.engine.train_epoch(model, optimizer, order)
        seconds = time.perf_counter() - start
        bad = (~torch.isfinite(losses)).nonzero()
        if len(bad):
            first = int(bad[0])
            history.losses.append(losses[: first + 1])
            step = sum(len(epoch_losses) for epoch_losses in history.losses)
            return f"the loss became {losses[first].item()} at step {step}"
        if not all(parameter.isfinite().all() for parameter in model.parameters()):
            history.losses.append(losses)
            return f"the weights are not finite after epoch {len(history.losses)}"
        model.eval()
        history.predictions = self.engine.predict(model)
        correct = (history.predictions == self.test_labels).sum().item()
        history.losses.append(losses)
        history.accuracy.append(100.0 * correct / len(self.test_labels))
        history.epoch_seconds.append(seconds)
        return None


def _restore(
    checkpoint: dict[str, Any], model: LeNet5, optimizer: torch.optim.Optimizer, history: History
) -> None:
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    # load_state_dict moves this one to the GPU, where NAdam would wait for it at every step.
    for state in optimizer.state.values():
        state["mu_product"] = state["mu_product"].cpu()
    vars(history).update(checkpoint["history"])


def _checkpoint(
    model: LeNet5, optimizer: torch.optim.Optimizer, history: History
) -> dict[str, Any]:
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": dict(vars(history)),
    }
