"""Engine kernel, through the training stage: many seeds at once, each as if it were alone."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from opproof import artifact, config, engines, train
from opproof.backends import BACKENDS
from opproof.engines import kernel
from opproof.engines.kernel import KernelEngine
from opproof.lenet import initial_parameters, sample_orders
from opproof.settings import DataSources, Settings
from opproof.train import run
from tests.unit import test_build
from tests.unit.few_mnist import few, work
from tests.unit.test_train import CPU, one_thread, plan

__all__ = ["few", "one_thread", "work"]

# What the losses of the first so many steps may differ by, relatively, from engine graph's: other
# orders of summation, which training magnifies.
TOLERANCES = {1: 1e-6, 10: 1e-5, 50: 1e-4, 200: 1e-2}

KERNEL = {"backends": ["fused", "erf"], "engine": "kernel", "device": "cpu"}


@pytest.fixture
def library(work: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have the libraries of the steps in each of the folders of results."""
    for output in ("results", "alone", "spoilt", "undisturbed"):
        Path(output).mkdir()
        Path(output, "build").symlink_to(test_build.built(tmp_path_factory) / "build")


def kernel_plan(folder: Path, seeds: list[int], **changes: Any) -> Settings:
    return plan(folder, **{**KERNEL, "seeds": seeds, "seeds_per_job": 3, **changes})


def train_block(plan: Settings, name: str = "fused", block: int = 0) -> dict[int, dict[str, Any]]:
    """Return the entries of the block's runs, by seed."""
    train.train_block(plan, plan.backend(name), plan.blocks()[block], block)
    path = Path(plan.output, "train", name, str(block), "block.json")
    return {entry["seed"]: entry for entry in artifact.read_json(path)["runs"]}


def arrays(plan: Settings, entry: dict[str, Any]) -> dict[str, np.ndarray]:
    path = Path(plan.output, "train", "fused", "0", entry["file"])
    return artifact.read_arrays(path, entry["sha256"])


@pytest.mark.parametrize("backend", ["fused", "erf"])
def test_agrees_with_engine_graph_on_mnist(
    mnist_folder: Path, tmp_path_factory: pytest.TempPathFactory, backend: str
) -> None:
    plan = dataclasses.replace(
        config.resolve(KERNEL),
        output=str(test_build.built(tmp_path_factory)),
        data=DataSources(str(mnist_folder), (), 20.0),
    )
    order = next(sample_orders(3, 60_000))[None, :12_800]
    losses = []
    for name in ("graph", "kernel"):
        engine = engines.create(name, plan, BACKENDS[backend], CPU)
        engine.begin(initial_parameters([3]))
        losses.append(engine.train(order)[0])
        predictions = engine.predict()
        assert predictions.shape == (1, 10_000)
        assert engine.are_finite().tolist() == [True]
        losses.append(predictions[0])
    graph, predicted_by_graph, of_kernel, predicted = losses
    difference = (of_kernel - graph).abs() / graph
    for steps, tolerance in TOLERANCES.items():
        assert difference[:steps].max() <= tolerance, f"in {steps} steps"
    assert (predicted == predicted_by_graph).float().mean() > 0.99


def test_a_seed_gives_the_same_alone_and_among_others(library: None, few: Path) -> None:
    together = train_block(kernel_plan(few, [3, 5, 8]))
    assert [*together] == [3, 5, 8]
    assert len({entry["sha256"] for entry in together.values()}) == 3
    alone = train_block(kernel_plan(few, [5], output="alone"))
    assert alone[5]["sha256"] == together[5]["sha256"]


def test_a_seed_that_fails_takes_nobody_along(
    library: None,
    few: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = train_block(kernel_plan(few, [3, 5, 8]))
    begin = KernelEngine.begin

    def spoilt(engine: KernelEngine, parameters: torch.Tensor) -> None:
        begin(engine, parameters)
        engine._parameters[1, 7] = torch.nan

    monkeypatch.setattr(KernelEngine, "begin", spoilt)
    plan = kernel_plan(few, [3, 5, 8], output="spoilt")
    found = train_block(plan)
    assert found[5]["failure"] == "the loss became nan at step 1"
    assert len(arrays(plan, found[5])["loss"]) == 1
    assert [found[seed]["sha256"] for seed in (3, 8)] == [
        expected[seed]["sha256"] for seed in (3, 8)
    ]


def interrupting(at_call: int) -> Callable[[KernelEngine, Tensor], Tensor]:
    """Return a `train` whose call of that number is interrupted, as by Ctrl-C."""
    train, calls = KernelEngine.train, 0

    def interrupted(engine: KernelEngine, orders: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == at_call:
            raise KeyboardInterrupt
        return train(engine, orders)

    return interrupted


@pytest.mark.parametrize("at_call", [2, 5])
def test_resumes_in_the_midst_of_an_epoch_and_beside_new_seeds(
    library: None,
    few: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_call: int,
) -> None:
    """An epoch has five steps; here two are taken at a stretch, and two new seeds come later."""
    expected = train_block(kernel_plan(few, [3, 5, 8], output="undisturbed"))
    monkeypatch.setattr(run, "_CHECKPOINT_INTERVAL", 0)
    monkeypatch.setattr(kernel, "_STEPS_ON_A_CPU", 2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(KernelEngine, "train", interrupting(at_call))
        train_block(kernel_plan(few, [5], seeds_per_job=1))
    taken: list[tuple[int, ...]] = []
    trained = KernelEngine.train

    def counting(engine: KernelEngine, orders: Tensor) -> Tensor:
        taken.append(tuple(orders.shape))
        return trained(engine, orders)

    monkeypatch.setattr(KernelEngine, "train", counting)
    found = train_block(kernel_plan(few, [3, 5, 8]))
    assert {seed: entry["sha256"] for seed, entry in found.items()} == {
        seed: entry["sha256"] for seed, entry in expected.items()
    }
    samples_of_new = sum(samples for seeds, samples in taken if seeds == 2)
    samples_of_resumed = sum(samples for seeds, samples in taken if seeds == 1)
    assert samples_of_new == 2 * 320
    assert 0 < samples_of_resumed < 2 * 320, "not from the start"
