"""The operators that train LeNet-5 on the CPU, against torch's network and optimizer."""

import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from opproof import backends, build
from opproof import library as opproof_library
from opproof.engines import nadam
from opproof.lenet import LeNet5, initial_model, sample_orders
from opproof.paths import CSRC
from opproof.settings import Build
from tests.unit.test_kernels import LEVELS, same_bits, vector_instructions

LEARNING_RATE = 3e-3
# Of the distance that the parameters have moved after six steps.
TOLERANCE = 2e-5


@pytest.fixture(scope="session", params=["gelu_step", "gelu_erf_step"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, under a name of its own: one process cannot load two that register the same."""
    shipped = backends.LIBRARIES[request.param]
    sources = tuple(source for source in shipped.sources if source.endswith(".cpp"))
    entry = dataclasses.replace(shipped, name=f"{shipped.name}_alone", sources=sources)
    output = tmp_path_factory.mktemp("results")
    build.build(entry, Build(cuda="off", cuda_arch_list="9.0"), output)
    return output / "build" / entry.name / f"{entry.name}.so"


@pytest.fixture(scope="session")
def library(path: Path) -> Any:
    opproof_library.load(path.parents[2], path.stem)
    return getattr(torch.ops, f"opproof_{path.stem}")


@pytest.fixture
def restored(library: Any, arithmetic: None) -> Iterator[None]:
    yield
    library.use_isa(-1)


# ---- Data like MNIST's: mostly black, and of every grey


def digits(count: int) -> tuple[Tensor, Tensor]:
    """Return images [count, 784] and labels [count], of blurred squares at places of their own."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (count,), generator=generator)
    images = torch.zeros(count, 28, 28)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = divmod(label, 4)
        patch = torch.rand(10, 10, generator=generator)
        image[6 * row : 6 * row + 10, 5 * column : 5 * column + 10] = patch
    return (255 * images).round().to(torch.uint8).view(count, 784), labels.to(torch.uint8)


@dataclass
class Run:
    """What `train` takes."""

    images: Tensor
    labels: Tensor
    order: Tensor
    schedule: Tensor
    parameters: Tensor
    first_moments: Tensor
    second_moments: Tensor
    losses: Tensor
    batch_size: int
    tf32: bool = False

    def train(self, library: Any) -> "Run":
        """Train in place."""
        library.train(*vars(self).values())
        return self

    def same_bits(self, other: "Run") -> bool:
        """Whether all that training changes is equal."""
        names = ("parameters", "first_moments", "second_moments", "losses")
        return all(same_bits(getattr(self, name), getattr(other, name)) for name in names)


def make_run(seeds: list[int], batch_size: int, samples: int) -> Run:
    """Return a run from the seeds' initial weights, each with an order of its own."""
    images, labels = digits(400)
    steps = -(-samples // batch_size)
    parameters = torch.stack([flat(initial_model(seed, F.gelu)) for seed in seeds])
    orders = []
    for seed in seeds:
        order = sample_orders(seed, len(images))
        orders.append(torch.cat([next(order) for _ in range(3)]))
    return Run(
        images,
        labels,
        torch.stack(orders)[:, :samples].int().contiguous(),
        nadam.schedule(steps, LEARNING_RATE),
        parameters,
        torch.zeros_like(parameters),
        torch.zeros_like(parameters),
        torch.zeros(len(seeds), steps),
        batch_size,
    )


def flat(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def model_of(parameters: Tensor) -> LeNet5:
    model = LeNet5(F.gelu).to(parameters.dtype)
    nn.utils.vector_to_parameters(parameters.clone(), model.parameters())
    return model


def as_floats(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return images.to(dtype).div(255).view(-1, 1, 28, 28)


def trained_by_torch(run: Run, seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return parameters and losses after torch.optim.NAdam's steps from the run's parameters."""
    model = model_of(run.parameters[seed].to(dtype))
    optimizer = torch.optim.NAdam(model.parameters(), lr=LEARNING_RATE)
    losses = []
    for batch in run.order[seed].long().split(run.batch_size):
        loss = F.cross_entropy(model(as_floats(run.images[batch], dtype)), run.labels[batch].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return flat(model), torch.stack(losses)


# ---- The same as torch


@pytest.mark.parametrize(
    ("batch_size", "samples"), [(64, 352), (32, 176), (1, 6), (100, 550), (7, 40), (200, 1100)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_training_is_that_of_torchs_optimizer(
    library: Any, batch_size: int, samples: int, dtype: torch.dtype
) -> None:
    run = make_run([3, 4], batch_size, samples)
    start, expected = run.parameters.clone(), [trained_by_torch(run, i, dtype) for i in range(2)]
    run.train(library)
    for seed, (parameters, losses) in enumerate(expected):
        moved = (parameters - start[seed]).norm()
        assert (run.parameters[seed] - parameters).norm() < TOLERANCE * moved
        torch.testing.assert_close(run.losses[seed], losses.float(), rtol=2e-6, atol=2e-6)


def test_steps_of_two_calls_are_those_of_one(library: Any) -> None:
    whole, parts = make_run([3], 64, 320).train(library), make_run([3], 64, 320)
    losses = []
    for step in (slice(0, 2), slice(2, 5)):
        part = dataclasses.replace(
            parts,
            order=parts.order[:, 64 * step.start : 64 * step.stop].contiguous(),
            schedule=parts.schedule[step],
            losses=torch.zeros(1, step.stop - step.start),
        )
        losses.append(part.train(library).losses)
    assert dataclasses.replace(parts, losses=torch.cat(losses, 1)).same_bits(whole)


def test_classes_are_torchs(library: Any) -> None:
    run = make_run([3, 4], 32, 400).train(library)
    images = run.images[:391]
    classes = library.predict(images, run.parameters)
    assert (classes.dtype, classes.shape) == (torch.uint8, (2, 391))
    for found, parameters in zip(classes, run.parameters, strict=True):
        logits = model_of(parameters)(as_floats(images))
        best, second = logits.topk(2).values.T
        clear = best - second > 1e-4
        assert clear.sum() > 380
        assert torch.equal(found[clear], logits.argmax(1).to(torch.uint8)[clear])
    assert (found == run.labels[:391]).float().mean() > 0.3


def test_of_equal_logits_the_first_class_is_taken(library: Any) -> None:
    parameters = torch.zeros(1, 44426)
    images = digits(20)[0]
    assert library.predict(images, parameters).count_nonzero() == 0
    parameters[0, -3:] = 1
    assert (library.predict(images, parameters) == 7).all()


def test_a_pixel_is_divided_as_torch_divides(tmp_path: Path) -> None:
    source, program = tmp_path / "pixels.cpp", tmp_path / "pixels"
    source.write_text(
        '#include <cstdio>\n#include "lenet.h"\n'
        "int main() {\n"
        "  for (int x = 0; x < 256; ++x) {\n"
        '    printf("%a\\n", opproof::lenet::scaled(static_cast<uint8_t>(x)));\n'
        "  }\n"
        "}\n"
    )
    compiler = os.environ.get("CXX", "c++")
    flags = ["-std=c++17", "-ffp-contract=off", f"-I{CSRC}"]
    subprocess.run([compiler, *flags, source, "-o", program], check=True)
    lines = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    expected = torch.arange(256, dtype=torch.uint8).float().div(255).tolist()
    assert [float.fromhex(line) for line in lines] == expected


# ---- The same bits, whatever is beside a seed


@pytest.mark.parametrize("level", ["baseline", "AVX2"])
def test_every_instruction_set_gives_the_same_bits(
    library: Any, restored: None, level: str
) -> None:
    best = make_run([3, 4], 64, 135).train(library)
    classes = library.predict(best.images[:50], best.parameters)
    if library.use_isa(LEVELS[level]) != LEVELS[level]:
        pytest.skip(f"this machine has no {level}")
    assert make_run([3, 4], 64, 135).train(library).same_bits(best)
    assert torch.equal(library.predict(best.images[:50], best.parameters), classes)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_seed_is_the_same_beside_others_on_any_number_of_threads(
    library: Any, restored: None, threads: int
) -> None:
    seeds = [3, 4, 5, 6, 7]
    torch.set_num_threads(threads)
    together = make_run(seeds, 48, 150).train(library)
    assert make_run(seeds, 48, 150).train(library).same_bits(together)
    classes = library.predict(together.images, together.parameters)
    for i, seed in enumerate(seeds):
        alone = make_run([seed], 48, 150).train(library)
        assert same_bits(alone.parameters[0], together.parameters[i])
        assert same_bits(alone.losses[0], together.losses[i])
        assert torch.equal(library.predict(alone.images, alone.parameters)[0], classes[i])


@pytest.mark.parametrize("at", [0, 160, 2560, 40000, 44425])
def test_nan_stays_in_its_seed(library: Any, at: int) -> None:
    sound, run = make_run([3, 4, 5], 64, 100).train(library), make_run([3, 4, 5], 64, 100)
    run.parameters[1, at] = torch.nan
    run.train(library)
    assert run.losses[1].isnan().all() and run.parameters[1].isnan().any()
    for seed in (0, 2):
        assert same_bits(run.parameters[seed], sound.parameters[seed])
        assert same_bits(run.losses[seed], sound.losses[seed])


# ---- What is refused, before anything is changed

Change = Callable[[Run], dict[str, Any]]
REFUSED: dict[str, tuple[Change, str]] = {
    "tf32": (lambda run: {"tf32": True}, "tf32 is for GPUs: a CPU has none"),
    "batch_size": (lambda run: {"batch_size": 0}, "batch_size must be at least 1"),
    "pixels": (lambda run: {"images": run.images.float()}, "images must be uint8"),
    "image size": (
        lambda run: {"images": run.images[:, 1:].contiguous()},
        "images must be of shape [n, 784]",
    ),
    "gaps": (lambda run: {"images": run.images[::2]}, "images must be contiguous"),
    "labels": (lambda run: {"labels": run.labels.int()}, "labels must be uint8"),
    "too few labels": (
        lambda run: {"labels": run.labels[1:]},
        "labels must be of shape [n], as many as images",
    ),
    "no class": (lambda run: {"labels": run.labels + 1}, "labels must be below 10"),
    "order's dtype": (lambda run: {"order": run.order.long()}, "order must be int32"),
    "order's seeds": (
        lambda run: {"order": run.order[:1]},
        "order must be of shape [seeds, samples], as many seeds as parameters",
    ),
    "too large an index": (
        lambda run: {"order": run.order + 1},
        "order must be of indices into images",
    ),
    "a negative index": (
        lambda run: {"order": run.order - 1},
        "order must be of indices into images",
    ),
    "schedule": (
        lambda run: {"schedule": run.schedule[1:]},
        "schedule must be of shape [steps, 3], steps being ceil(samples / batch_size)",
    ),
    "losses": (
        lambda run: {"losses": torch.zeros(2, 1)},
        "losses must be of shape [seeds, steps]",
    ),
    "parameters' dtype": (
        lambda run: {"parameters": run.parameters.double()},
        "parameters must be float32",
    ),
    "parameters' shape": (
        lambda run: {"parameters": run.parameters[:, 1:].contiguous()},
        "parameters must be of shape [seeds, 44426]",
    ),
    "moments": (
        lambda run: {"second_moments": run.second_moments[:1]},
        "first_moments and second_moments must be of parameters' shape",
    ),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_refused(library: Any, change: Change, message: str) -> None:
    run = make_run([3, 4], 200, 400)
    before = run.parameters.clone()
    with pytest.raises(RuntimeError, match=re.escape(message)):
        dataclasses.replace(run, **change(run)).train(library)
    assert same_bits(run.parameters, before)
    assert run.first_moments.count_nonzero() == run.losses.count_nonzero() == 0


def test_nothing_to_train_on_changes_nothing(library: Any) -> None:
    run = make_run([3], 64, 0)
    before = run.parameters.clone()
    assert same_bits(run.train(library).parameters, before)
    assert library.predict(run.images[:0], run.parameters).shape == (1, 0)


# ---- The file


@pytest.mark.skipif(not shutil.which("objdump"), reason="no objdump")
def test_instructions_beyond_the_baseline_are_in_their_namespaces_alone(path: Path) -> None:
    found = vector_instructions(path, ("avx512", "avx2"))
    assert found["baseline"] == set()
    assert found["avx2"] == {"v", "%ymm"}
    assert {"v", "%zmm"} <= found["avx512"]
