"""Training and prediction by lenet_step.cu: as torch's, and the same bits however it is called."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from opproof.engines import nadam
from tests.unit import step_reference as reference

PRECISIONS = {"fp32": False, "tf32": True}
BATCH = 64
SAMPLES = 5 * BATCH + 32


@dataclass(frozen=True)
class Call:
    """The tensors of a call of `train`, on the GPU."""

    order: Tensor
    schedule: Tensor
    parameters: Tensor
    first_moments: Tensor
    second_moments: Tensor
    losses: Tensor
    batch_size: int

    @classmethod
    def of(cls, initial: Tensor, order: Tensor, batch_size: int) -> "Call":
        steps = -(-order.shape[1] // batch_size)
        parameters = initial.cuda()
        moments = (torch.zeros_like(parameters), torch.zeros_like(parameters))
        losses = torch.full((len(order), steps), torch.nan, device="cuda")
        schedule = nadam.schedule(steps, reference.LEARNING_RATE).cuda()
        return cls(order.cuda(), schedule, parameters, *moments, losses, batch_size)

    def run(self, operators: Any, tf32: bool) -> "Call":
        images, labels = (tensor.cuda() for tensor in reference.images())
        self.into(operators, tf32, images, labels)
        return self

    def into(self, operators: Any, tf32: bool, images: Tensor, labels: Tensor) -> None:
        operators.train(
            images,
            labels,
            self.order,
            self.schedule,
            self.parameters,
            self.first_moments,
            self.second_moments,
            self.losses,
            self.batch_size,
            tf32,
        )

    def results(self) -> tuple[Tensor, ...]:
        return self.parameters, self.first_moments, self.second_moments, self.losses


def assert_same_bits(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for left, right in zip(found, expected, strict=True):
        assert torch.equal(left, right)


def so_many() -> int:
    """Return a number of seeds with which a block has eight images, as with one seed it has one."""
    return 4 * torch.cuda.get_device_properties(0).multi_processor_count // BATCH + 1


@pytest.mark.parametrize("tf32", PRECISIONS.values(), ids=PRECISIONS)
@pytest.mark.parametrize("seeds", [1, 3])
def test_trains_as_torch_does(gelu_step: Any, seeds: int, tf32: bool) -> None:
    """Six steps, the last of a smaller batch."""
    expected = reference.trained(seeds, SAMPLES, BATCH)
    call = Call.of(expected.initial, expected.order, BATCH).run(gelu_step, tf32)
    assert expected.distance(call.parameters.cpu()) <= reference.LIMITS[tf32]
    assert (call.losses.cpu() - expected.losses).abs().max() <= (1e-3 if tf32 else 1e-6)


def test_trains_by_the_textbooks_formula(gelu_erf_step: Any) -> None:
    expected = reference.trained(1, SAMPLES, BATCH)
    call = Call.of(expected.initial, expected.order, BATCH).run(gelu_erf_step, tf32=False)
    assert expected.distance(call.parameters.cpu()) <= 1e-4  # the formula is right to 1e-6


@pytest.mark.parametrize("tf32", PRECISIONS.values(), ids=PRECISIONS)
@pytest.mark.parametrize("batch_size", [1, 7, 32, 64, 100, 1024])
def test_a_seed_alone_is_as_among_others(gelu_step: Any, batch_size: int, tf32: bool) -> None:
    """And every run is as the one before."""
    seeds = min(max(3, so_many() * BATCH // batch_size + 1), 600)
    samples = min(3 * batch_size + 5, 1500)
    initial = reference.trained(3, SAMPLES, BATCH).initial[torch.arange(seeds) % 3]
    order = torch.stack([torch.randperm(reference.IMAGES)[:samples] for _ in range(seeds)]).int()
    together = Call.of(initial, order, batch_size).run(gelu_step, tf32)
    again = Call.of(initial, order, batch_size).run(gelu_step, tf32)
    assert_same_bits(again.results(), together.results())
    assert together.parameters.isfinite().all()
    for seed in (0, 1, seeds - 1):
        one = slice(seed, seed + 1)
        alone = Call.of(initial[one], order[one], batch_size).run(gelu_step, tf32)
        assert_same_bits(alone.results(), tuple(tensor[one] for tensor in together.results()))


def test_steps_in_two_calls_are_as_in_one(gelu_step: Any) -> None:
    expected = reference.trained(3, SAMPLES, BATCH)
    whole = Call.of(expected.initial, expected.order, BATCH).run(gelu_step, tf32=False)
    halves = Call.of(expected.initial, expected.order, BATCH)
    images, labels = (tensor.cuda() for tensor in reference.images())
    for steps in (slice(0, 2), slice(2, 6)):
        samples = slice(steps.start * BATCH, min(steps.stop * BATCH, SAMPLES))
        losses = halves.losses[:, steps].contiguous()
        gelu_step.train(
            images,
            labels,
            halves.order[:, samples].contiguous(),
            halves.schedule[steps].contiguous(),
            halves.parameters,
            halves.first_moments,
            halves.second_moments,
            losses,
            BATCH,
            False,
        )
        halves.losses[:, steps] = losses
    assert_same_bits(halves.results(), whole.results())


@pytest.mark.parametrize("seeds", [1, 16])
def test_a_graph_replays_what_a_call_does(gelu_step: Any, seeds: int) -> None:
    """Also with another order and schedule in the same memory."""
    initial = reference.trained(1, SAMPLES, BATCH).initial.repeat(seeds, 1)
    orders = [
        torch.stack([torch.randperm(reference.IMAGES)[:SAMPLES] for _ in range(seeds)]).int()
        for _ in range(2)
    ]
    images, labels = (tensor.cuda() for tensor in reference.images())
    captured = Call.of(initial, orders[0], BATCH)
    captured.into(gelu_step, False, images, labels)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured.into(gelu_step, False, images, labels)
    for scale, order in zip((1.0, 0.5), orders, strict=True):
        eager = Call.of(initial, order, BATCH)
        eager.schedule[:, :2] *= scale
        captured.order.copy_(eager.order)
        captured.schedule.copy_(eager.schedule)
        captured.parameters.copy_(eager.parameters)
        captured.first_moments.zero_()
        captured.second_moments.zero_()
        graph.replay()
        eager.into(gelu_step, False, images, labels)
        assert_same_bits(captured.results(), eager.results())


def test_runs_on_the_current_stream(gelu_step: Any) -> None:
    """Nothing waits: what is queued before the call is done before it."""
    expected = reference.trained(3, SAMPLES, BATCH)
    ahead = Call.of(expected.initial, expected.order, BATCH).run(gelu_step, tf32=False)
    call = Call.of(torch.zeros_like(expected.initial), expected.order, BATCH)
    initial = expected.initial.cuda()
    images, labels = (tensor.cuda() for tensor in reference.images())
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        call.parameters.copy_(initial)
        call.into(gelu_step, False, images, labels)
        assert not stream.query()
    stream.synchronize()
    assert_same_bits(call.results(), ahead.results())


@pytest.mark.parametrize("count", [1, 8, 1001])
def test_predicts_as_torch_does(gelu_step: Any, count: int) -> None:
    """But for what torch itself all but doubts."""
    images, _ = reference.images()
    parameters = reference.trained(3, SAMPLES, BATCH).initial
    classes = gelu_step.predict(images[:count].cuda(), parameters.cuda()).cpu()
    assert classes.dtype == torch.uint8 and classes.shape == (3, count)
    for seed in range(3):
        logits = reference.logits(seed, count)
        chosen = logits.gather(1, classes[seed].long()[:, None])[:, 0]
        assert (logits.max(dim=1).values - chosen).max() <= 1e-5


def test_more_seeds_than_a_grid_has_are_refused(gelu_step: Any) -> None:
    images = torch.zeros(1, 784, dtype=torch.uint8, device="cuda")
    parameters = torch.empty(1, 44426, device="cuda").expand(65536, 44426)
    with pytest.raises(RuntimeError, match=r"65535|contiguous"):
        gelu_step.predict(images, parameters)
