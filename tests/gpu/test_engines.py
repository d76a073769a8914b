"""One truth for all engines: on a GPU the same losses as the textbook's loop on a CPU.

Needs MNIST in resources/mnist, as the data stage leaves it, or the four files as .gz.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from opproof import device, mnist
from opproof.engines.engine import Engine
from opproof.engines.graph import GraphEngine
from opproof.engines.kernel import KernelEngine
from opproof.lenet import initial_parameters, sample_orders
from opproof.settings import Training

CPU = torch.device("cpu")
TRAINING = Training(epochs=1, batch_size=64, learning_rate=0.003)
STEPS = 200

# What the losses of the first so many steps may differ by, relatively: another order of summation
# in each engine, which training magnifies.
TOLERANCES = {
    "fp32": {1: 1e-5, 10: 1e-4, 50: 1e-3, 200: 5e-2},
    "tf32": {1: 1e-3, 10: 1e-2, 50: 1e-1},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = Path("resources/mnist")
    if all((kept / file.name).exists() for file in mnist.FILES):
        return kept
    unpacked = tmp_path_factory.mktemp("mnist")
    for file in mnist.FILES:
        packed = kept / f"{file.name}.gz"
        if not packed.exists():
            pytest.skip("needs MNIST in resources/mnist: make quick, or copy the four files there")
        (unpacked / file.name).write_bytes(gzip.decompress(packed.read_bytes()))
    return unpacked


@pytest.fixture(scope="module")
def cuda() -> Iterator[torch.device]:
    where = torch.device("cuda", torch.cuda.current_device())
    device.set_arithmetic("fp32", where)
    yield where
    torch.use_deterministic_algorithms(False)


def losses(engine: Engine, seeds: list[int], steps: int = STEPS) -> torch.Tensor:
    """Return the first losses of these seeds, float32 [seeds, steps], on the CPU."""
    engine.begin(initial_parameters(seeds))
    orders = torch.stack([next(sample_orders(seed, 60_000)) for seed in seeds])
    return engine.train(orders[:, : 64 * steps]).cpu()


@pytest.fixture(scope="module")
def expected(folder: Path, cuda: torch.device) -> torch.Tensor:
    """The losses of seed 3 on the CPU, by torch's own operators."""
    return losses(GraphEngine(folder, TRAINING, F.gelu, None, CPU), [3])[0]


def assert_near(found: torch.Tensor, expected: torch.Tensor, precision: str) -> None:
    difference = (found - expected).abs() / expected
    for steps, tolerance in TOLERANCES[precision].items():
        assert difference[:steps].max() <= tolerance, f"in {steps} steps"


def test_graph(folder: Path, cuda: torch.device, expected: torch.Tensor) -> None:
    engine = GraphEngine(folder, TRAINING, F.gelu, None, cuda)
    first = losses(engine, [3])[0]
    assert_near(first, expected, "fp32")
    assert torch.equal(losses(engine, [3])[0], first), "replayed from the start"
    losses(engine, [5])
    assert torch.equal(losses(engine, [3])[0], first), "whatever was trained before"


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("library", ["gelu_step", "gelu_erf_step"])
def test_kernel(
    folder: Path,
    cuda: torch.device,
    expected: torch.Tensor,
    request: pytest.FixtureRequest,
    library: str,
    precision: str,
) -> None:
    operators = request.getfixturevalue(library)
    engine = KernelEngine(folder, TRAINING, operators, precision == "tf32", cuda)
    alone = losses(engine, [3])
    assert_near(alone[0], expected, precision)
    among = losses(engine, [1, 2, 3, *range(10, 40)])
    assert torch.equal(among[2], alone[0]), "among others"


@pytest.mark.parametrize("name", ["graph", "kernel"])
def test_goes_on_from_a_state(folder: Path, cuda: torch.device, gelu_step: Any, name: str) -> None:
    def create() -> Engine:
        if name == "graph":
            return GraphEngine(folder, TRAINING, F.gelu, None, cuda)
        return KernelEngine(folder, TRAINING, gelu_step, False, cuda)

    order = next(sample_orders(3, 60_000))[None]
    engine = create()
    engine.begin(initial_parameters([3]))
    engine.train(order[:, :6400])
    state = engine.state(0)
    rest = engine.train(order[:, 6400:12_800]).cpu()
    predictions = engine.predict()
    other = create()
    other.resume([state])
    assert torch.equal(other.train(order[:, 6400:12_800]).cpu(), rest)
    assert torch.equal(other.predict(), predictions)
    assert other.are_finite().tolist() == [True]


def test_reference(folder: Path, cuda: torch.device, expected: torch.Tensor) -> None:
    reference = pytest.importorskip("opproof.engines.reference")  # needs torchvision
    engine = reference.ReferenceEngine(folder, TRAINING, F.gelu, None, cuda)
    assert_near(losses(engine, [3], 50)[0], expected[:50], "fp32")
