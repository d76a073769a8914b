"""lenet_step.cu's kernels on a CPU: their threads emulated, in a random order between barriers."""

import ctypes
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from opproof import toolchain
from opproof.engines import nadam
from opproof.paths import CSRC
from tests.unit import step_reference as reference

SOURCE = Path(__file__).with_name("lenet_step_emulated.cpp")
HEADERS = ("gelu.h", "gelu_erf.h")

FLAGS = ("-std=c++17", "-ffp-contract=off", "-fPIC", "-shared", "-Wno-unknown-pragmas")

# A kernel's plans, as lenet_step_emulated.cpp numbers them: a block for an image, the same with the
# linear layers' weights in shared memory, and a block for eight images.
PLANS = {"alone": 0, "staged": 1, "eight": 2}
PRECISIONS = {"fp32": False, "tf32": True}


def compile_kernels(
    program: Path, csrc: Path = CSRC, header: str = "gelu.h", optimise: str = "-O1"
) -> ctypes.CDLL:
    activation = f'-DOPPROOF_ACTIVATION="activations/{header}"'
    command = [toolchain.compiler() or "c++", *FLAGS, optimise, activation, f"-I{csrc}"]
    subprocess.run([*command, SOURCE, "-o", program], check=True)
    return ctypes.CDLL(str(program))


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ctypes.CDLL]:
    """The compiled kernels, by the header of the activation."""
    folder = tmp_path_factory.mktemp("emulated")
    with ThreadPoolExecutor() as pool:
        compiled = pool.map(
            lambda name: compile_kernels(folder / f"{name}.so", header=name), HEADERS
        )
        return dict(zip(HEADERS, compiled, strict=True))


def pointer(tensor: Tensor) -> ctypes.c_void_p:
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())


def train(
    library: ctypes.CDLL,
    initial: Tensor,
    order: Tensor,
    batch_size: int,
    tf32: bool = False,
    plan: int = 0,
    thread_order: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return parameters and losses after the steps of the order."""
    pixels, labels = reference.images()
    seeds, samples = order.shape
    steps = -(-samples // batch_size)
    scalars = nadam.schedule(steps, reference.LEARNING_RATE)
    parameters, losses = initial.clone(), torch.full((seeds, steps), torch.nan)
    first, second = torch.zeros_like(parameters), torch.zeros_like(parameters)
    tensors = (pixels, labels, order, scalars, parameters, first, second, losses)
    library.train(
        *map(pointer, tensors),
        *map(ctypes.c_int64, (seeds, samples, batch_size)),
        ctypes.c_bool(tf32),
        ctypes.c_int(plan),
        ctypes.c_uint(thread_order),
    )
    return parameters, losses


@pytest.mark.parametrize("plan", ["staged", "eight"])
@pytest.mark.parametrize("tf32", PRECISIONS.values(), ids=PRECISIONS)
def test_trains_as_torch_does(kernels: dict[str, ctypes.CDLL], tf32: bool, plan: str) -> None:
    """Six steps, the last of a smaller batch."""
    expected = reference.trained(seeds=1, samples=5 * 64 + 32, batch_size=64)
    found, losses = train(
        kernels["gelu.h"], expected.initial, expected.order, 64, tf32, PLANS[plan]
    )
    assert expected.distance(found) <= reference.LIMITS[tf32]
    assert (losses - expected.losses).abs().max() <= (1e-3 if tf32 else 1e-6)


def test_trains_by_the_textbooks_formula(kernels: dict[str, ctypes.CDLL]) -> None:
    expected = reference.trained(seeds=1, samples=40, batch_size=16)
    found, _ = train(
        kernels["gelu_erf.h"], expected.initial, expected.order, 16, plan=PLANS["eight"]
    )
    assert expected.distance(found) <= 1e-4  # the formula is right to 1e-6


@pytest.mark.parametrize("tf32", PRECISIONS.values(), ids=PRECISIONS)
@pytest.mark.parametrize(("batch_size", "samples"), [(1, 3), (32, 40), (100, 100)])
def test_every_plan_and_order_of_threads_gives_the_same_bits(
    kernels: dict[str, ctypes.CDLL], batch_size: int, samples: int, tf32: bool
) -> None:
    """Whatever the batch: alone, by eight, and with the threads in another order."""
    expected = reference.trained(1, samples, batch_size)
    results = [
        train(kernels["gelu.h"], expected.initial, expected.order, batch_size, tf32, plan, order)
        for plan, order in [(0, 1), (1, 2), (2, 3), (2, 4)]
    ]
    assert expected.distance(results[0][0]) <= (2e-2 if tf32 else 1e-4)  # steps are few
    for parameters, losses in results[1:]:
        assert torch.equal(parameters, results[0][0])
        assert torch.equal(losses, results[0][1])


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_seed_alone_is_as_among_others(kernels: dict[str, ctypes.CDLL], plan: int) -> None:
    expected = reference.trained(seeds=3, samples=21, batch_size=12)
    together = train(kernels["gelu.h"], expected.initial, expected.order, 12, plan=plan)
    by_itself = train(
        kernels["gelu.h"],
        expected.initial[1:2].clone(),
        expected.order[1:2].clone(),
        12,
        plan=plan,
    )
    assert expected.distance(together[0]) <= 1e-4  # steps are few
    assert torch.equal(together[0][1:2], by_itself[0])
    assert torch.equal(together[1][1:2], by_itself[1])


def test_a_label_that_is_no_class_shows(kernels: dict[str, ctypes.CDLL]) -> None:
    _, labels = reference.images()
    expected = reference.trained(seeds=1, samples=3, batch_size=1)
    kept = labels.clone()
    labels[expected.order[0, 1]] = 10
    try:
        _, losses = train(kernels["gelu.h"], expected.initial, expected.order, 1)
    finally:
        labels.copy_(kept)
    assert losses.isnan().tolist() == [[False, True, False]]


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("header", HEADERS)
def test_predicts_as_torch_does(kernels: dict[str, ctypes.CDLL], header: str, plan: int) -> None:
    """But for what torch itself all but doubts."""
    seeds, count = 2, 21
    pixels, _ = reference.images()
    classes = torch.full((seeds, count), 255, dtype=torch.uint8)
    parameters = reference.trained(seeds, 3, 1).initial
    kernels[header].predict(
        pointer(pixels),
        *map(ctypes.c_int64, (count, seeds)),
        pointer(parameters),
        pointer(classes),
        ctypes.c_int(plan),
        ctypes.c_uint(0),
    )
    for seed in range(seeds):
        logits = reference.logits(seed, count)
        best = logits.max(dim=1).values
        chosen = logits.gather(1, classes[seed].long()[:, None])[:, 0]
        assert (best - chosen).max() <= 1e-5


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[str, str, str], ctypes.CDLL]:
    """Compiles the kernels with a passage of a file replaced by another."""

    def compile_edited(name: str, passage: str, replacement: str) -> ctypes.CDLL:
        for path in [*CSRC.glob("*.h"), *CSRC.glob("activations/*.h"), *CSRC.glob("lenet_step/*")]:
            copy = tmp_path / "csrc" / path.relative_to(CSRC)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
        file = tmp_path / "csrc" / name
        text = file.read_text()
        assert text.count(passage) == 1, passage
        file.write_text(text.replace(passage, replacement))
        return compile_kernels(tmp_path / "edited.so", tmp_path / "csrc", optimise="-O0")

    return compile_edited


# Each without a barrier that somebody might think to be one too many: a file, what stands there,
# what is put in its place, and the plan.
BARRIERS = {
    "weights": (
        "network.cuh",
        "shared.weight2);\n  sync_block();\n",
        "shared.weight2);\n",
        "eight",
    ),
    "rows": (
        "layer1.cuh",
        "    Place<Plan>::sync_team();\n#pragma",
        "#pragma",
        "eight",
    ),
    "errors": (
        "network.cuh",
        "  sync_block();\n  if (place.warp < kParts)",
        "  if (place.warp < kParts)",
        "alone",
    ),
}


@pytest.mark.parametrize("barrier", BARRIERS)
def test_a_missing_barrier_shows(
    edited: Callable[[str, str, str], ctypes.CDLL], barrier: str
) -> None:
    name, passage, replacement, plan = BARRIERS[barrier]
    library = edited(f"lenet_step/{name}", passage, replacement)
    expected = reference.trained(seeds=1, samples=3, batch_size=1)
    found, _ = train(library, expected.initial, expected.order, 1, plan=PLANS[plan])
    assert not expected.distance(found) <= reference.LIMITS[False]
