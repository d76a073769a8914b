"""Training, on the first images of MNIST: 320 to train on, 5 steps an epoch, and 200 to test on.

Real but for their number; one test compares the engines on all of them.
"""

import contextlib
import dataclasses
import itertools
import multiprocessing
import random
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from opproof import (
    __main__,
    artifact,
    config,
    events,
    lease,
    mnist,
    operators,
    tensorboard,
    textbook,
    train,
)
from opproof.backends import BACKENDS
from opproof.engines import graph
from opproof.engines.graph import GraphEngine
from opproof.engines.reference import ReferenceEngine
from opproof.errors import UserError
from opproof.gpu_sampler import GpuSampler
from opproof.lenet import initial_model, initial_parameters, sample_orders
from opproof.mnist import IdxFile
from opproof.operators import Activation
from opproof.settings import Settings, Training
from opproof.train import run
from opproof.train.progress import Progress
from opproof.train.run import Run, Trainer
from opproof.train.state import RunRecord, RunState
from opproof.train.writer import Writer
from tests.unit import test_build
from tests.unit.few_mnist import few, files_in, work

__all__ = ["few", "work"]

CPU = torch.device("cpu")
ENGINES = ["graph", "reference"]
CALLS_PER_EPOCH = 36  # of the activation: six a step, of five steps and one batch of test images

# What engines may differ by, relatively, in the losses of the first so many steps: rounding, which
# training magnifies.
TOLERANCES = {1: 1e-6, 10: 1e-6, 50: 1e-5, 200: 1e-4}
TOLERANCE = TOLERANCES[50]


@pytest.fixture(autouse=True)
def one_thread(arithmetic: None) -> None:
    """Compute with one thread, as jobs do."""
    torch.set_num_threads(1)


def plan(few: Path, **changes: Any) -> Settings:
    """Return settings for two epochs of seeds 0 and 1 in one job, verified well."""
    raw = {
        "backends": ["torch", "python"],
        "seeds": [0, 1],
        "seeds_per_job": 2,
        "device": "cpu",
        "train": {"epochs": 2},
        "data": {"folder": str(few)},
    }
    settings = config.resolve({**raw, **changes})
    for backend in settings.backends:
        expected = backend.expect.verify if backend.expect else "pass"
        verified(settings, backend.name, expected, expected)
    settings.freeze()
    return settings


def verified(settings: Settings, backend: str, verdict: str, expected: str) -> None:
    artifact.write_json(
        Path(settings.output, "verify", f"{backend}.json"),
        {"backend": backend, "verdict": verdict, "expected": expected, "reasons": []},
    )


def train_all(settings: Settings, name: str = "torch") -> dict[str, Any]:
    """Train all blocks of a backend; return its record, with the runs of all blocks."""
    records = []
    for number, seeds in enumerate(settings.blocks()):
        train.train_block(settings, settings.backend(name), seeds, number)
        records.append(
            artifact.read_json(Path(settings.output, "train", name, str(number), "block.json"))
        )
    return {**records[0], "runs": [entry for record in records for entry in record["runs"]]}


def arrays(settings: Settings, entry: dict[str, Any], name: str = "torch") -> dict[str, np.ndarray]:
    """Return the arrays that an entry of a block's record tells of."""
    (path,) = Path(settings.output, "train", name).glob(f"*/{entry['file']}")
    return artifact.read_arrays(path, entry["sha256"])


# The textbook ------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["torch", "python"])
@pytest.mark.parametrize("engine", ENGINES)
def test_trains_as_the_textbook(
    work: Path, few: Path, monkeypatch: pytest.MonkeyPatch, engine: str, backend: str
) -> None:
    monkeypatch.setattr(graph, "_PREDICTED_ON_A_CPU", 64)
    settings = plan(few, engine=engine, seeds=[5], train={"epochs": 3, "batch_size": 48})
    (entry,) = train_all(settings, backend)["runs"]
    found = arrays(settings, entry, backend)
    loss, accuracy, predictions = textbook_training(
        few, {"torch": F.gelu}.get(backend, textbook.gelu)
    )
    assert len(loss) == 21, "seven batches an epoch, the last one of 32"
    np.testing.assert_allclose(found["loss"], loss, rtol=TOLERANCE)
    assert found["accuracy"].tolist() == entry["accuracy"] == accuracy
    assert found["predictions"].tolist() == predictions
    averages = [sum(loss[start : start + 7]) / 7 for start in (0, 7, 14)]
    assert entry["average_loss"] == pytest.approx(averages, rel=TOLERANCE)


def test_every_built_in_backend_trains_alike(
    work: Path, few: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    Path("results").mkdir()
    Path("results/build").symlink_to(test_build.built(tmp_path_factory) / "build")
    names = [name for name in BACKENDS if name != "tanh"]
    settings = plan(few, backends=names, seeds=[0], train={"epochs": 8})
    losses = {}
    for name in names:
        record = train_all(settings, name)
        assert (record["not_trained"], record["runs"][0]["failure"]) == (None, None)
        losses[name] = arrays(settings, record["runs"][0], name)["loss"]
        np.testing.assert_allclose(losses[name], losses["torch"], rtol=0, atol=1e-3)
    found = {loss.tobytes() for loss in losses.values()}
    assert len(found) == len(names), "each with an operator of its own"


def test_memory_is_not_filled_in_training(work: Path, few: Path) -> None:
    """It would only cost: verification does it, where it shows a fault."""
    torch.utils.deterministic.fill_uninitialized_memory = True
    train_all(plan(few, seeds=[0], train={"epochs": 1}))
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory


def textbook_training(folder: Path, activation: Activation) -> tuple[list[float], ...]:
    """Train seed 5 for three epochs of batches of 48 by the textbook's loop, letter by letter.

    Only the weights and the order of the samples are given, where the textbook draws them.
    Returns the loss of each step, the accuracy of each epoch and the last predictions.
    """
    from torchvision.transforms import ToTensor

    from opproof.engines.reference import IdxMnist

    device = torch.device("cpu")
    train_dataset = IdxMnist(folder, train=True, transform=ToTensor())
    test_dataset = IdxMnist(folder, train=False, transform=ToTensor())
    test_loader = torch.utils.data.DataLoader(test_dataset, batch_size=64, shuffle=False)
    model = initial_model(5, activation)
    model = model.to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.NAdam(model.parameters(), lr=3e-3)
    step_losses, accuracies, predictions = [], [], []
    for _, order in zip(range(3), sample_orders(5, 320), strict=False):
        train_loader = torch.utils.data.DataLoader(train_dataset, batch_size=48, sampler=order)
        model.train()
        for _batch_idx, (images, labels) in enumerate(train_loader):
            images, labels = images.to(device), labels.to(device)
            outputs = model(images)
            loss = criterion(outputs, labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step_losses.append(loss.item())
        model.eval()
        with torch.no_grad():
            correct, total, predictions = 0, 0, []
            for _batch_idx, (images, labels) in enumerate(test_loader):
                images, labels = images.to(device), labels.to(device)
                outputs = model(images)
                _predict, result = torch.max(outputs.data, 1)
                total += labels.size(0)
                correct += (result == labels).sum().item()
                predictions += result.tolist()
        accuracies.append(100 * correct / total)
    return step_losses, accuracies, predictions


def test_engines_agree_on_the_whole_of_mnist(mnist_folder: Path) -> None:
    training = Training(epochs=10, batch_size=64, learning_rate=0.003)
    order = next(sample_orders(0, 60_000))[None, :12_800]
    losses = []
    for engine in (GraphEngine, ReferenceEngine):
        trained = engine(mnist_folder, training, F.gelu, None, CPU)
        trained.begin(initial_parameters([0]))
        losses.append(trained.train(order)[0])
    assert losses[0].shape == (200,)
    difference = (losses[0] - losses[1]).abs() / losses[1]
    for steps, tolerance in TOLERANCES.items():
        assert difference[:steps].max() <= tolerance, f"in {steps} steps"


@pytest.mark.parametrize(
    ("batch_size", "steps"), [(1, 60_000), (7, 8572), (64, 938), (59_999, 2), (60_000, 1)]
)
def test_steps_of_an_epoch(batch_size: int, steps: int) -> None:
    assert mnist.steps_per_epoch(batch_size) == steps
    assert len(torch.arange(60_000).split(batch_size)) == steps


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch_size", [7, 300, 319, 320, 60_000])
def test_batches_that_do_not_divide_the_samples(
    work: Path, few: Path, engine: str, batch_size: int
) -> None:
    settings = plan(few, engine=engine, seeds=[0], train={"epochs": 2, "batch_size": batch_size})
    (entry,) = train_all(settings)["runs"]
    loss = arrays(settings, entry)["loss"]
    steps = -(-320 // batch_size)
    assert len(loss) == 2 * steps
    assert entry["average_loss"] == pytest.approx([loss[:steps].mean(), loss[steps:].mean()])


# What a block leaves ------------------------------------------------------------------------------


def test_a_block_is_recorded_whole(work: Path, few: Path) -> None:
    settings = plan(few, seeds=[3, 17])
    record = train_all(settings)
    runs, controls, job = (record.pop(key) for key in ("runs", "controls", "provenance"))
    assert record == {
        "backend": "torch",
        "engine": "graph",
        "precision": "fp32",
        "train": {"epochs": 2, "batch_size": 64, "learning_rate": 0.003},
        "not_trained": None,
        "device": "cpu",
        "measurements": {"hardware": "CPU", "gpu": None, "gpu_samples": []},
    }
    assert {"host", "started", "environment"} <= set(job)
    labels = mnist.read(few, mnist.TEST_LABELS)
    for seed, entry in zip((3, 17), runs, strict=True):
        content = arrays(settings, entry)
        loss, accuracy, predictions = (content[key] for key in ("loss", "accuracy", "predictions"))
        first = content["first_predictions"]
        assert len(content) == 4
        assert accuracy[0] == 100 * (first == labels).mean()
        assert (loss.dtype, loss.shape) == (np.float32, (10,))
        assert (accuracy.dtype, accuracy.shape) == (np.float64, (2,))
        assert (predictions.dtype, predictions.shape) == (np.uint8, (200,))
        assert accuracy[-1] == 100 * (predictions == labels).mean()
        measured = entry.pop("measurements")
        assert measured.keys() == {"epoch_seconds", "epoch_peak_memory_bytes"}
        assert len(measured["epoch_seconds"]) == 2
        assert all(second > 0 for second in measured["epoch_seconds"])
        first, second = measured["epoch_peak_memory_bytes"]
        assert 1e8 < first <= second < 1e12, "of a process that has imported torch, in bytes"
        assert entry == {
            "seed": seed,
            "failure": None,
            "average_loss": loss.reshape(2, 5).mean(axis=1, dtype=np.float64).tolist(),
            "accuracy": accuracy.tolist(),
            "file": f"seed-{seed}.npz",
            "sha256": artifact.file_digest(Path("results/train/torch/0", entry["file"])),
        }
        folder = events.folder(settings) / "torch" / f"seed-{seed:02}"  # of 3 and 17
        assert len(list(folder.glob("events.*"))) == 1

    assert [entry["seed"] for entry in controls] == [3, 17]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_control_is_an_epoch_of_the_baseline_but_for_an_ulp_of_its_weights(
    work: Path, few: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "_CONTROLS", 2)
    training = {"epochs": 2, "batch_size": 4}  # 80 steps an epoch: enough to see an ULP
    settings = plan(few, engine=engine, seeds=[3, 17, 5], train=training)
    record = train_all(settings)
    assert train_all(settings, "python")["controls"] == []
    assert [(entry["seed"], entry["file"]) for entry in record["controls"]] == [
        (3, "control-3.npz"),
        (17, "control-17.npz"),
    ]
    for of_seed, entry in zip(record["runs"], record["controls"], strict=False):
        content, control = arrays(settings, of_seed), arrays(settings, entry)
        difference = np.abs(control["loss"] - content["loss"][:80])
        assert 0 < difference.max() < 1e-4
        assert len(control["accuracy"]) == 1
        assert (control["predictions"] == content["first_predictions"]).mean() > 0.99


def test_event_files_are_written_once(work: Path, few: Path) -> None:
    def written() -> set[tuple[str, int]]:
        files = Path("results/tensorboard").rglob("events.*")
        return {(str(file), file.stat().st_mtime_ns) for file in files}

    settings = plan(few)
    train_all(settings)
    first = written()
    assert len(first) == 2
    train_all(settings)
    assert written() == first
    train_all(plan(few, train={"epochs": 1}))
    assert len(written()) == 2
    assert written().isdisjoint(first)


def test_tensorboard_has_nothing_to_add_to_a_run(
    work: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But the network, and, as a file of the job's own, what that took of its GPU."""
    sample = {"seconds": 1, "utilisation_percent": 50.0, "memory_bytes": 1}
    monkeypatch.setattr(GpuSampler, "samples", lambda self: [sample])
    settings = plan(few)
    train_all(settings)
    folder = Path("results/tensorboard/torch")
    trained = {"seed-0", "seed-1"}
    assert {path.name for path in folder.iterdir()} == trained
    assert tensorboard.write_missing(settings) == 2
    assert {path.name for path in folder.iterdir()} == trained | {"job-0", "network"}


def test_there_is_no_clock_in_the_arrays(work: Path, few: Path) -> None:
    train_all(plan(few))
    for path in Path("results").rglob("*.npz"):
        with zipfile.ZipFile(path) as archive:
            assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_is_a_function_of_its_seed(work: Path, few: Path, engine: str) -> None:
    def digests(**changes: Any) -> dict[int, str]:
        record = train_all(plan(few, engine=engine, output=f"r{random.random()}", **changes))
        return {entry["seed"]: entry["sha256"] for entry in record["runs"]}

    first = digests(seeds=[0, 1])
    torch.manual_seed(99)
    assert digests(seeds=[0, 1]) == first
    assert digests(seeds=[1]) == {1: first[1]}, "whatever its job trained before"
    assert first[0] != first[1]


# Findings about a backend, and faults of a machine ------------------------------------------------


def operator(at: int, what: str) -> None:
    """Write the operator of the backend mine: F.gelu, which at its call number `at` does `what`."""
    sys.modules.pop("operator_of_a_user", None)
    Path("operator_of_a_user.py").write_text(
        "from torch.nn import functional as F\n"
        "calls = 0\n"
        "def mine(x):\n"
        "    global calls\n"
        "    calls += 1\n"
        f"    if calls == {at}: {what}\n"
        "    return F.gelu(x)\n"
    )


MINE = {"backends": ["torch", {"name": "mine", "op": "operator_of_a_user:mine"}]}
SECOND_RUN = 2 * CALLS_PER_EPOCH + 1


@pytest.mark.parametrize(
    ("at", "what", "failure", "epochs", "steps"),
    [
        (1, "x = x * float('nan')", "the loss became nan at step 1", 0, 1),
        (19, "x = x * float('nan')", "the loss became nan at step 4", 0, 4),
        (CALLS_PER_EPOCH + 7, "x = x * float('nan')", "the loss became nan at step 7", 1, 7),
        (19, "raise RuntimeError('no\\nmore')", "RuntimeError: no", 0, 0),
        (CALLS_PER_EPOCH + 7, "raise ValueError('no')", "ValueError: no", 1, 5),
        (1, "raise KeyError", "KeyError: ", 0, 0),
        (6, "return x[:, 1:]", "RuntimeError: mat1 and mat2 shapes cannot be mul", 0, 0),
        (6, "return x.detach().requires_grad_(False).numpy()", "TypeError: linear(): ", 0, 0),
    ],
    ids=[
        "NaN at once",
        "NaN",
        "NaN in the second epoch",
        "raises",
        "raises in the second epoch",
        "raises without a message",
        "wrong shape",
        "not a tensor",
    ],
)
def test_a_seed_that_fails_is_recorded_and_the_others_go_on(
    work: Path, few: Path, at: int, what: str, failure: str, epochs: int, steps: int
) -> None:
    operator(at, what)
    settings = plan(few, **MINE, seeds=[0, 1])
    failed, good = train_all(settings, "mine")["runs"]
    assert failed["failure"].startswith(failure)
    assert "\n" not in failed["failure"]
    assert (failed["seed"], len(failed["accuracy"])) == (0, epochs)
    expected = train_all(settings)["runs"]
    assert failed["average_loss"] == expected[0]["average_loss"][:epochs]
    loss = arrays(settings, failed, "mine")["loss"]
    ended_well = steps - ("NaN" in failure or "nan" in failure)
    assert len(loss) == steps
    np.testing.assert_array_equal(
        loss[:ended_well], arrays(settings, expected[0])["loss"][:ended_well]
    )
    assert np.isnan(loss[ended_well:]).all()
    assert good["failure"] is None
    assert good["sha256"] == expected[1]["sha256"]


def test_weights_that_are_not_finite_in_the_end_are_a_failure(work: Path, few: Path) -> None:
    # The gradient of the last step is NaN, and no loss follows that would show it.
    operator(CALLS_PER_EPOCH + 25, "x = x + (x * 0).sqrt()")
    (entry,) = train_all(plan(few, **MINE, seeds=[0]), "mine")["runs"]
    assert entry["failure"]


def test_a_seed_that_failed_before_is_shown_as_such(
    work: Path, few: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operator(19, "x = x * float('nan')")
    settings = plan(few, **MINE, seeds=[0, 1])
    first = train_all(settings, "mine")["runs"]
    assert train_all(settings, "mine")["runs"] == first
    how = ended(capsys)["mine"]
    assert "the loss became nan at step 4" in how[0]
    assert how[1] == "trained before"


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("raise OSError('no disk')", OSError),
        ("raise MemoryError", MemoryError),
        ("import torch; raise torch.OutOfMemoryError('no memory')", torch.OutOfMemoryError),
        ("import torch; raise torch.AcceleratorError('no GPU')", torch.AcceleratorError),
        ("raise KeyboardInterrupt", KeyboardInterrupt),
    ],
    ids=["OSError", "MemoryError", "OutOfMemoryError", "AcceleratorError", "KeyboardInterrupt"],
)
def test_a_fault_of_the_machine_fails_the_job_and_keeps_what_is_done(
    work: Path,
    few: Path,
    capsys: pytest.CaptureFixture[str],
    what: str,
    error: type[BaseException],
) -> None:
    operator(SECOND_RUN, f"import os; os.path.exists('mended') or exec({what!r})")
    settings = plan(few, **MINE, seeds=[0, 1])
    with pytest.raises(error):
        train_all(settings, "mine")
    assert not Path("results/train/mine/0/block.json").exists()
    Path("mended").touch()
    capsys.readouterr()
    mine, expected = train_all(settings, "mine")["runs"], train_all(settings)["runs"]
    assert ended(capsys)["mine"] == {0: "trained before", 1: "trained"}
    assert [entry["sha256"] for entry in mine] == [entry["sha256"] for entry in expected]


def ended(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[int, str]]:
    """Return how runs ended, by backend and seed, as the log says."""
    found: dict[str, dict[int, str]] = {}
    for name, seed, how in re.findall(r"^(\w+) seed (\d+): (.*)$", capsys.readouterr().out, re.M):
        found.setdefault(name, {})[int(seed)] = how
    return found


@pytest.mark.parametrize(
    ("verdict", "expected", "not_trained"),
    [
        ("pass", "pass", None),
        ("fail", "fail", None),
        ("pass", "fail", None),
        ("fail", "pass", "refused by verification"),
    ],
    ids=["passed", "expected failure", "unexpected pass", "refused"],
)
def test_what_verification_refuses_is_not_trained(
    work: Path,
    few: Path,
    capsys: pytest.CaptureFixture[str],
    verdict: str,
    expected: str,
    not_trained: str | None,
) -> None:
    settings = plan(few)
    verified(settings, "torch", verdict, expected)
    record = train_all(settings)
    assert record["not_trained"] == not_trained
    assert [entry["seed"] for entry in record["runs"]] == ([] if not_trained else [0, 1])
    assert record["device"] == (None if not_trained else "cpu")
    said = "torch is not trained: refused by verification\n" if not_trained else ""
    assert capsys.readouterr().out.startswith(said)
    assert any(Path("results/state").glob("*/0")) == (not_trained is None)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("", "op operator_of_a_user:mine: AttributeError: "),
        ("mine = 3", "op operator_of_a_user:mine: not callable"),
        ("1 / 0", "op operator_of_a_user:mine: ZeroDivisionError: division by zero"),
        ("raise ImportError('no\\nmore')", "op operator_of_a_user:mine: ImportError: no"),
        (None, "op operator_of_a_user:mine: ModuleNotFoundError: "),
    ],
    ids=["no such name", "not callable", "raises on import", "raises two lines", "no such module"],
)
def test_what_cannot_be_used_is_not_trained(
    work: Path, few: Path, code: str | None, reason: str
) -> None:
    sys.modules.pop("operator_of_a_user", None)
    if code is not None:
        Path("operator_of_a_user.py").write_text(code)
    record = train_all(plan(few, **MINE), "mine")
    assert record["not_trained"].startswith(reason)
    assert "\n" not in record["not_trained"]
    assert record["runs"] == []


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("file", mnist.FILES, ids=lambda file: file.name)
def test_a_flipped_byte_of_the_data_is_a_fault(
    work: Path,
    few: Path,
    capsys: pytest.CaptureFixture[str],
    file: IdxFile,
    engine: str,
) -> None:
    for official in mnist.FILES:
        content = bytearray((few / official.name).read_bytes())
        content[-1] ^= official.name == file.name
        Path(official.name).write_bytes(content)
    settings = plan(Path(), engine=engine, data={"folder": "./"})
    assert train_by_hand(settings) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"opproof train: {file.name}: not the official file: MD5 is not ")
    assert error.count("\n") == 1
    assert not Path("results/train").exists()


@pytest.mark.parametrize("block", ["-1", "1"])
def test_a_block_that_is_not_planned(
    work: Path, few: Path, capsys: pytest.CaptureFixture[str], block: str
) -> None:
    assert train_by_hand(plan(few), "--block", block) == 2
    assert capsys.readouterr().err == f"opproof train: --block: is {block}; allowed: 0 to 0\n"


def test_without_a_verdict(work: Path, few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = plan(few)
    Path("results/verify/torch.json").unlink()
    assert train_by_hand(settings) == 2
    assert capsys.readouterr().err == (
        "opproof train: results/verify/torch.json: missing; run the pipeline or its stage first\n"
    )


def train_by_hand(settings: Settings, *options: str) -> int:
    frozen = str(settings.frozen_path)
    return __main__.main(["train", "--config", frozen, "--backend", "torch", *options])


# What is trained again, and what is not -----------------------------------------------------------


def edit_operator(old: str, new: str) -> None:
    path = Path("operator_of_a_user.py")
    path.write_text(path.read_text().replace(old, new))
    sys.modules.pop("operator_of_a_user")


def spoil(name: str) -> None:
    """Flip the last byte of seed 0's file of that name."""
    (path,) = Path("results/state").glob(f"*/0/{name}")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


BEFORE, ANEW = "trained before", "trained"


@pytest.mark.parametrize(
    ("edit", "changes", "how"),
    [
        pytest.param(None, {}, [BEFORE, BEFORE], id="nothing changed"),
        pytest.param(None, {"seeds_per_job": 1}, [BEFORE, BEFORE], id="seeds_per_job"),
        pytest.param(None, {"seeds": [0, 1, 2]}, [BEFORE, BEFORE, ANEW], id="one more seed"),
        pytest.param(None, {"seeds": [7, 0]}, [ANEW, BEFORE], id="other seeds"),
        pytest.param(
            lambda: edit_operator("calls = 0\n", "# of this process\ncalls = 0\n"),
            {},
            [BEFORE, BEFORE],
            id="comment in the operator's file",
        ),
        pytest.param(
            lambda: edit_operator("calls = 0", "calls = 1"), {}, [ANEW, ANEW], id="operator's file"
        ),
        pytest.param(
            lambda: Path("part_of_a_user.py").write_text("SLOPE = 2"),
            {},
            [ANEW, ANEW],
            id="module that the operator imports",
        ),
        pytest.param(None, {"engine": "reference"}, [ANEW, ANEW], id="engine"),
        pytest.param(None, {"train": {"epochs": 1}}, [ANEW, ANEW], id="epochs"),
        pytest.param(None, {"train": {"epochs": 2, "batch_size": 65}}, [ANEW] * 2, id="batch_size"),
        pytest.param(
            None, {"train": {"epochs": 2, "learning_rate": 0.0031}}, [ANEW] * 2, id="learning_rate"
        ),
        pytest.param(lambda: spoil("run.npz"), {}, [ANEW, BEFORE], id="damaged arrays"),
        pytest.param(lambda: spoil("run.json"), {}, [ANEW, BEFORE], id="damaged record"),
    ],
)
def test_what_is_trained_again(
    work: Path,
    few: Path,
    capsys: pytest.CaptureFixture[str],
    edit: Callable[[], None] | None,
    changes: dict[str, Any],
    how: list[str],
) -> None:
    operator(0, "import part_of_a_user")
    Path("part_of_a_user.py").write_text("SLOPE = 1")
    before = {e["seed"]: e for e in train_all(plan(few, **MINE), "mine")["runs"]}
    if edit:
        edit()
    capsys.readouterr()
    settings = plan(few, **{**MINE, **changes})
    after = train_all(settings, "mine")["runs"]
    assert ended(capsys) == {"mine": dict(zip(settings.seeds, how, strict=True))}
    assert [entry["seed"] for entry in after] == list(settings.seeds)
    for entry, said in zip(after, how, strict=True):
        if said == BEFORE:
            assert entry == before[entry["seed"]], "as it was, its measurements too"


def built(sha256: str, name: str = "aten_gelu") -> None:
    """Leave a build record, which alone counts in the digest of a run."""
    artifact.write_json(
        Path("results/build", name, "build.json"), {"error": None, "sha256": sha256}
    )


def digest(settings: Settings, name: str = "cpp", where: torch.device = CPU) -> str:
    return train.run_digest(settings, settings.backend(name), where)


def test_what_a_run_is_known_by(work: Path, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backends = ["torch", "python", "cpp", {"name": "also_torch", "op": "torch.nn.functional:gelu"}]
    settings = plan(few, backends=backends)
    built("1" * 64)
    first = digest(settings)
    assert digest(plan(few, backends=["cpp"], seeds=[5], seeds_per_job=9)) == first
    assert digest(settings, "torch") != digest(settings, "also_torch"), (
        "they may be at work at once"
    )
    assert len({digest(settings, name) for name in ("torch", "python", "cpp")}) == 3
    assert digest(settings, where=torch.device("cuda", 0)) != first
    assert digest(dataclasses.replace(settings, precision="tf32")) != first
    built("2" * 64)
    assert digest(settings) != first, "another library"
    built("1" * 64)
    assert digest(settings) == first
    built("1" * 64, "gelu")
    both = plan(few, backends=["fused", "pooled"])
    assert digest(both, "fused") != digest(both, "pooled"), "another operator of one library"
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    assert digest(settings) != first, "another torch"


# Killed, resumed, out of disk ---------------------------------------------------------------------


def attempt(
    few: Path,
    state: str,
    activation: Activation = F.gelu,
    pooled: Activation | None = None,
    epochs: int = 3,
) -> RunRecord:
    """Train seed 0, resuming what an earlier attempt left in `state`."""
    labels = torch.from_numpy(mnist.read(few, mnist.TEST_LABELS)).long()
    training = Training(epochs=epochs, batch_size=64, learning_rate=0.003)
    engine = GraphEngine(few, training, activation, pooled, CPU)
    with Progress("torch", seeds=1, epochs=epochs) as progress, Writer() as writer:
        trainer = Trainer(engine, training, labels, writer)
        [(_, record)] = trainer.train([Run(0, RunState(Path(), state, 0))], progress)
    return record


def interrupted(
    at_epoch: int, activation: Activation = F.gelu, calls_per_epoch: int = CALLS_PER_EPOCH
) -> Activation:
    """Return the activation, which ends the process in that epoch, as an interruption does."""
    calls = 0

    def activate(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > (at_epoch - 1) * calls_per_epoch:
            raise KeyboardInterrupt
        return activation(x)

    return activate


def checkpoint_of(state: str) -> Path:
    return RunState(Path(), state, 0)._checkpoint_path


def epochs_in(log: str) -> list[int]:
    """Return the epochs that a log tells of."""
    return [int(epoch) for epoch in re.findall(r"^\w+ seed 0 epoch (\d+)/", log, re.M)]


def assert_same(found: RunRecord, expected: RunRecord) -> None:
    assert found.failure == expected.failure
    assert len(found.measurements["epoch_seconds"]) == len(expected.arrays["accuracy"])
    for name, array in expected.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array, strict=True)


@pytest.mark.parametrize(
    ("previous", "epochs"),
    [
        pytest.param(lambda path: None, [2, 3], id="previous whole"),
        pytest.param(lambda path: path.write_bytes(b"x"), [1, 2, 3], id="previous damaged"),
        pytest.param(Path.unlink, [1, 2, 3], id="previous missing"),
    ],
)
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda content: content[:-1], id="last byte missing"),
        pytest.param(lambda content: content[:10], id="cut short"),
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: flipped(content, 0), id="first byte flipped"),
        pytest.param(lambda content: flipped(content, 5000), id="byte 5000 flipped"),
        pytest.param(lambda content: flipped(content, -1), id="last byte flipped"),
        pytest.param(None, id="missing"),
    ],
)
def test_resumes_from_a_checkpoint_that_is_whole(
    work: Path,
    few: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[bytes], bytes] | None,
    previous: Callable[[Path], object],
    epochs: list[int],
) -> None:
    monkeypatch.setattr(run, "_CHECKPOINT_INTERVAL", 0)
    expected = attempt(few, "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        attempt(few, "state", interrupted(at_epoch=3))
    path, before = checkpoint_of("state"), RunState(Path(), "state", 0)._previous_path
    content = path.read_bytes()
    path.unlink()
    if spoil:
        path.write_bytes(spoil(content))
    previous(before)
    there = [file for file in (path, before) if file.exists()]
    capsys.readouterr()
    record = attempt(few, "state")
    log = capsys.readouterr().out
    assert epochs_in(log) == epochs
    assert_same(record, expected)
    said = [f"{path}: {'damaged' if spoil else 'missing'}; this run goes on from the one before it"]
    if len(epochs) == 3:
        fault = "damaged" if before in there else "missing"
        said.append(f"{before}: {fault}; this run starts over")
    assert [line for line in log.splitlines() if "; this run " in line] == (said if there else [])


def test_resumes_from_its_last_checkpoint(
    work: Path, few: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "_CHECKPOINT_INTERVAL", 0)
    expected = attempt(few, "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        attempt(few, "state", interrupted(at_epoch=3))
    capsys.readouterr()
    assert_same(attempt(few, "state"), expected)
    log = capsys.readouterr().out
    assert epochs_in(log) == [3]
    assert "; this run " not in log


def test_the_checkpoint_before_is_one_that_was_whole(tmp_path: Path) -> None:
    state = RunState(tmp_path, "state", 0)
    state.save_checkpoint({"number": 1})
    state.save_checkpoint({"number": 2})
    for number in (3, 4):
        state._checkpoint_path.write_bytes(b"damaged")
        assert state.load_checkpoint() == {"number": 1}
        state.save_checkpoint({"number": number})


def test_the_pooled_operator_resumes_to_the_same_bits(
    work: Path,
    few: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.setattr(run, "_CHECKPOINT_INTERVAL", 0)
    output = test_build.built(tmp_path_factory)
    activation = operators.resolve(BACKENDS["pooled"], output)
    pooled = operators.resolve_pooled(BACKENDS["pooled"], output)
    expected = attempt(few, "undisturbed", activation, pooled)
    assert not np.array_equal(expected.arrays["loss"], attempt(few, "x", activation).arrays["loss"])
    with pytest.raises(KeyboardInterrupt):
        attempt(few, "state", activation, interrupted(3, pooled, CALLS_PER_EPOCH // 3))
    capsys.readouterr()
    assert_same(attempt(few, "state", activation, pooled), expected)
    assert epochs_in(capsys.readouterr().out) == [3]


def flipped(content: bytes, at: int) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


def test_killed_after_its_last_checkpoint(
    work: Path, few: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "_CHECKPOINT_INTERVAL", 0)
    first = attempt(few, "state")
    capsys.readouterr()
    assert_same(attempt(few, "state"), first)
    assert epochs_in(capsys.readouterr().out) == []


def test_an_ended_run_leaves_no_checkpoint(
    work: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_CHECKPOINT_INTERVAL", 0)
    train_all(plan(few))
    left = {path.name for path in Path("results/state").glob("*/[01]/*")}
    assert left == {"run.json", "run.npz"}


@pytest.mark.parametrize("interval", [0, 1e9])
def test_a_checkpoint_is_not_written_oftener_than_the_interval(
    work: Path, few: Path, monkeypatch: pytest.MonkeyPatch, interval: float
) -> None:
    monkeypatch.setattr(run, "_CHECKPOINT_INTERVAL", interval)
    attempt(few, "state")
    assert checkpoint_of("state").exists() == (interval == 0)


TAKE = {
    "its job": 'lease.take(output, output / "train/mine/0")',
    "the run": "lease.take(output, output / 'state' / of_run.parent.name / of_run.stem)",
    "a lease that is gone": "of_run.unlink()",
}


@pytest.mark.parametrize("taken", TAKE)
@pytest.mark.parametrize(
    ("checks", "checkpoints", "epochs"),
    [
        # Writes and checks go on beside the next epoch, at whose end their failure is known.
        pytest.param(0, 1e9, [1, 2, 3], id="without checkpoints"),
        pytest.param(1e9, 0, [1, 2, 3], id="at a checkpoint"),
        pytest.param(1e9, 1e9, [1, 2, 3, 4], id="at the end"),
    ],
)
def test_an_attempt_ends_once_another_has_taken_over(
    work: Path,
    few: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    taken: str,
    checks: float,
    checkpoints: float,
    epochs: list[int],
) -> None:
    """In the midst of its second epoch; what it has done until then stays."""
    monkeypatch.setattr(run, "_CHECK_INTERVAL", checks)
    monkeypatch.setattr(run, "_CHECKPOINT_INTERVAL", checkpoints)
    Path("take.py").write_text(
        "from pathlib import Path\n"
        "from opproof import lease\n"
        "output = Path('results')\n"
        "[of_run] = output.glob('state/leases/state/*/0.json')\n"
        f"{TAKE[taken]}\n"
    )
    operator(CALLS_PER_EPOCH + 7, "exec(open('take.py').read())")
    settings = plan(few, **MINE, seeds=[0], train={"epochs": 4})
    words = "lost the right" if "gone" in taken else "another attempt has taken over"
    with pytest.raises(UserError, match=words):
        train_all(settings, "mine")
    assert epochs_in(capsys.readouterr().out) == epochs
    left = {path.name for path in Path("results").rglob("*") if path.is_file()}
    assert left.isdisjoint({"block.json", "run.json", "run.npz", "seed-0.npz"})
    assert ("checkpoint.pt" in left) == (checkpoints == 0)


@pytest.mark.parametrize(("interval", "checks"), [(0, 4), (1e9, 1)])
def test_the_right_to_write_is_not_checked_oftener_than_the_interval(
    work: Path, few: Path, monkeypatch: pytest.MonkeyPatch, interval: float, checks: int
) -> None:
    """Once an epoch at most, and before the record is written."""
    counted = []
    monkeypatch.setattr(run, "_CHECK_INTERVAL", interval)
    monkeypatch.setattr(RunState, "check", lambda self: counted.append(self))
    train_all(plan(few, seeds=[0], train={"epochs": 3}), "python")
    assert len(counted) == checks


def test_a_block_that_is_taken_over_writes_nothing_more(
    work: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that ended before need no right to their state, but their arrays are the job's."""
    settings = plan(few)
    train_all(settings)
    for path in Path("results/train/torch/0").iterdir():
        path.unlink()
    ended = RunState.ended

    def take_over(state: RunState) -> RunRecord | None:
        if state.folder.name == "1":
            lease.take(Path("results"), Path("results/train/torch/0"))
        return ended(state)

    monkeypatch.setattr(RunState, "ended", take_over)
    with pytest.raises(UserError, match="another attempt has taken over"):
        train_all(settings)
    assert [path.name for path in Path("results/train/torch/0").iterdir()] == ["seed-0.npz"]


def test_killed_at_random_moments(work: Path, few: Path) -> None:
    settings = plan(few, seeds=[0], train={"epochs": 30})
    logs = []
    for _ in range(4):
        log = Path(f"log-{len(logs)}")
        process = started(settings, log)
        for _ in range(random.randint(1, 3)):
            wait_for_a_checkpoint(process)
        time.sleep(random.uniform(0, 0.03))
        process.kill()
        process.join()
        logs.append(epochs_in(log.read_text()))
    last = started(settings, Path("log"))
    last.join()
    logs.append(epochs_in(Path("log").read_text()))

    assert last.exitcode == 0, Path("log").read_text()
    assert logs[0][0] == 1
    for before, after in itertools.pairwise(logs):
        # It may have been killed before the checkpoint of the last epoch that it told of was there,
        # even when the one before it had made room.
        assert before[-1] - 1 <= after[0] <= before[-1] + 1, logs
        assert after[0] > 1, logs
    assert logs[-1][-1] == 30

    record = artifact.read_json(Path("results/train/torch/0/block.json"))
    expected = train_all(plan(few, seeds=[0], train={"epochs": 30}, output="undisturbed"))
    assert record["runs"][0]["sha256"] == expected["runs"][0]["sha256"]
    assert len(record["runs"][0]["measurements"]["epoch_seconds"]) == 30


def started(settings: Settings, log: Path) -> ForkServerProcess:
    """Start a job that writes a checkpoint after each epoch, from a process that has torch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=job, args=(settings.data.folder, settings.frozen_path, log))
    process.start()
    return process


def job(few: str, frozen: Path, log: Path) -> None:
    """Be a training job in a process of its own."""
    for name, file in files_in(Path(few)).items():
        setattr(mnist, name, file)
    run.TRAIN_LABELS = mnist.TRAIN_LABELS
    run._CHECKPOINT_INTERVAL = 0
    sys.stdout = sys.stderr = log.open("w", buffering=1)
    sys.exit(__main__.main(["train", "--config", str(frozen), "--backend", "torch"]))


def wait_for_a_checkpoint(process: ForkServerProcess) -> None:
    """Wait until there is another checkpoint than now."""

    def newest() -> list[int]:
        found = []
        for path in Path("results/state").glob("*/0/checkpoint.pt"):
            with contextlib.suppress(FileNotFoundError):  # replaced just now
                found.append(path.stat().st_mtime_ns)
        return found

    now = newest()
    while newest() in (now, []):
        assert process.is_alive(), "it ended before it was killed"
        time.sleep(0.001)


FULL_DISK = """
mount -t tmpfs -o size=900k tmpfs results && cp -r plan/. results || exit
"$0" -c "$1" "$2"
echo $? > status
cp -r results left
"""
JOB = """
import sys
from tests.unit.test_train import Path, job
job(sys.argv[1], next(Path("results/config").glob("*.json")), Path("log"))
"""


def test_a_full_disk_is_one_line_and_leaves_the_checkpoint(
    work: Path, few: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = plan(few, seeds=[0], train={"epochs": 4})
    Path("results").rename("plan")
    Path("results").mkdir()
    possible = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    if possible.returncode:
        pytest.skip(f"needs root, for a small file system: {possible.stderr.decode().strip()}")
    subprocess.run(["unshare", "-m", "sh", "-c", FULL_DISK, sys.executable, JOB, few], check=True)
    assert Path("status").read_text() == "2\n"
    *said, error = Path("log").read_text().splitlines()
    assert epochs_in("\n".join(said)) == [1, 2, 3], "written beside the third"
    assert re.fullmatch(
        r"opproof train: results/state/\w+/0/checkpoint\.pt: cannot be written: "
        r"No space left on device \([\d,]+ bytes needed, [\d,]+ free\)",
        error,
    )
    (state,) = Path("left/state").glob("*/0")
    assert [path.name for path in state.iterdir()] == ["checkpoint.pt"]

    capsys.readouterr()
    (entry,) = train_all(dataclasses.replace(settings, output="left"))["runs"]
    assert epochs_in(capsys.readouterr().out) == [2, 3, 4], "resumed from the one that was there"
    (expected,) = train_all(dataclasses.replace(settings, output="plan"))["runs"]
    assert entry["sha256"] == expected["sha256"]
