import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from opproof import operators, textbook
from opproof.backends import BACKENDS
from opproof.lenet import LeNet5, initial_model, initial_parameters, nudged, sample_orders
from opproof.operators import Activation
from tests.unit.test_build import built

PARAMETERS = {
    "conv1.weight": (6, 1, 5, 5),
    "conv1.bias": (6,),
    "conv2.weight": (16, 6, 5, 5),
    "conv2.bias": (16,),
    "fc1.weight": (120, 256),
    "fc1.bias": (120,),
    "fc2.weight": (84, 120),
    "fc2.bias": (84,),
    "fc3.weight": (10, 84),
    "fc3.bias": (10,),
}
ACTIVATED = [(6, 24, 24), (6, 12, 12), (16, 8, 8), (16, 4, 4), (120,), (84,)]
SEEDS = [0, 1, 2**31, 2**32 - 1]


class Textbook(nn.Module):
    """The textbook's network, letter by letter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, stride=1)
        self.conv2 = nn.Conv2d(6, 16, 5, stride=1)
        self.pool = nn.AvgPool2d(2, stride=2)
        self.full1 = nn.Linear(16 * 4 * 4, 120)
        self.full2 = nn.Linear(120, 84)
        self.full3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.conv1(x))
        x = F.gelu(self.pool(x))
        x = F.gelu(self.conv2(x))
        x = F.gelu(self.pool(x))
        x = x.view(-1, 16 * 4 * 4)
        x = F.gelu(self.full1(x))
        x = F.gelu(self.full2(x))
        x = self.full3(x)
        return x


def test_parameters() -> None:
    model = LeNet5(F.gelu)
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == PARAMETERS
    assert sum(p.numel() for p in model.parameters()) == 44_426
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("batch", [1, 3])
def test_what_is_activated(batch: int) -> None:
    shapes = []

    def record(x: Tensor) -> Tensor:
        shapes.append(tuple(x.shape))
        return x

    assert LeNet5(record)(images(batch)).shape == (batch, 10)
    assert shapes == [(batch, *shape) for shape in ACTIVATED]


def test_same_as_the_textbooks_network() -> None:
    model, literal = initial_model(0, F.gelu), Textbook()
    literal.load_state_dict(
        {name.replace("fc", "full"): p for name, p in model.state_dict().items()}
    )
    logits, expected = model(images(5)), literal(images(5))
    assert torch.equal(logits, expected)
    logits.square().sum().backward()
    expected.square().sum().backward()
    for parameter, literal_one in zip(model.parameters(), literal.parameters(), strict=True):
        assert torch.equal(parameter.grad, literal_one.grad)


class DeclaredPool(nn.Module):
    """An average pool whose sum is in the order that the pooled operator declares."""

    def forward(self, x: Tensor) -> Tensor:
        (a, b), (c, d) = ([x[..., i::2, j::2] for j in (0, 1)] for i in (0, 1))
        return 0.25 * ((a + b) + (c + d))


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory)


@pytest.mark.parametrize("seed", SEEDS[:2])
@pytest.mark.parametrize("declared", [False, True], ids=["torch's pool", "the declared order"])
def test_with_the_pooled_operator_it_is_the_same_network(
    output: Path, seed: int, declared: bool
) -> None:
    """To the bit but for the pool's sum: torch's is ((a + b) + c) + d."""
    fused = operators.resolve(BACKENDS["fused"], output)
    pooled = operators.resolve_pooled(BACKENDS["pooled"], output)
    of_three, of_one = initial_model(seed, fused), initial_model(seed, fused, pooled)
    for name in PARAMETERS:
        assert torch.equal(of_three.get_parameter(name), of_one.get_parameter(name))
    if declared:
        of_three.pool = DeclaredPool()
    results = []
    for model in (of_three, of_one):
        logits = model(images(64))
        logits.square().sum().backward()
        results.append([logits, *(parameter.grad for parameter in model.parameters())])
    exact = {"rtol": 0, "atol": 0}
    for expected, found in zip(*results, strict=True):
        scale = 1e-6 * float(expected.detach().abs().max())
        torch.testing.assert_close(
            found, expected, **(exact if declared else {"rtol": 0, "atol": scale})
        )


def test_the_pooled_operator_stands_for_three_layers_and_the_activation_for_the_rest() -> None:
    shapes: dict[str, list[tuple[int, ...]]] = {"activation": [], "pooled": []}

    def activation(x: Tensor) -> Tensor:
        shapes["activation"].append(tuple(x.shape[1:]))
        return x

    def pooled(x: Tensor) -> Tensor:
        shapes["pooled"].append(tuple(x.shape[1:]))
        return F.avg_pool2d(x, 2)

    LeNet5(activation, pooled)(images(2))
    assert shapes == {"activation": ACTIVATED[4:], "pooled": [ACTIVATED[0], ACTIVATED[2]]}


def draws(x: Tensor) -> Tensor:
    """An activation that uses up random numbers and sets the seed."""
    torch.rand(7)
    torch.manual_seed(99)
    return x


@pytest.mark.parametrize(
    "activation",
    [F.gelu, textbook.gelu, nn.PReLU(), nn.Linear(4, 4), draws],
    ids=["torch", "python", "with a parameter", "with random weights", "draws"],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_determines_the_weights(seed: int, activation: Activation) -> None:
    torch.manual_seed(123)  # of no influence
    weights, expected = initial_model(seed, activation), initial_model(seed, F.gelu)
    for name in PARAMETERS:
        assert torch.equal(weights.get_parameter(name), expected.get_parameter(name))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_determines_the_orders(seed: int) -> None:
    expected = first_orders(seed)
    orders = sample_orders(seed, 1000)
    for order in expected:
        torch.manual_seed(99)
        torch.rand(7)
        assert torch.equal(next(orders), order)
        assert order.dtype == torch.int64
        assert order.sort().values.tolist() == list(range(1000))
    assert len({tuple(order.tolist()) for order in expected}) == 3, "each epoch has its own"


def test_seeds_differ() -> None:
    seeds = [*range(50), *SEEDS[2:]]
    weights = {tuple(initial_model(seed, F.gelu).conv1.bias.tolist()) for seed in seeds}
    orders = {tuple(first_orders(seed)[0].tolist()) for seed in seeds}
    assert len(weights) == len(orders) == len(seeds)


def test_global_random_numbers_are_untouched() -> None:
    def state() -> tuple[object, ...]:
        python, numpy = random.getstate(), np.random.get_state(legacy=False)
        return torch.get_rng_state().tolist(), python, repr(numpy)

    before = state()
    initial_model(5, F.gelu)
    first_orders(5)
    assert state() == before


def first_orders(seed: int) -> list[Tensor]:
    """Return the orders of the first three epochs."""
    return [order for order, _ in zip(sample_orders(seed, 1000), range(3), strict=False)]


def images(batch: int) -> Tensor:
    return torch.rand(batch, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def test_nudged_weights_are_neighbours_of_what_they_were() -> None:
    parameters = initial_parameters([3, 4])
    moved = nudged(parameters, [3, 4])
    above, below = (moved == parameters.nextafter(torch.tensor(to)) for to in (math.inf, -math.inf))
    assert (above ^ below).all()
    assert 0.49 < above.float().mean() < 0.51
    assert not torch.equal(above[0], above[1])
    assert torch.equal(nudged(parameters[1:], [4])[0], moved[1]), "whoever is beside it"
