"""The flat NAdam against torch's."""

import pytest
import torch

from opproof.engines import nadam


@pytest.mark.parametrize("learning_rate", [3e-3, 0.1])
def test_is_torchs_to_rounding(learning_rate: float) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = 0.1 * torch.randn(1000, generator=generator)  # of the size of LeNet-5's
    flat, first, second = weights.clone(), torch.zeros(1000), torch.zeros(1000)
    torchs = [torch.nn.Parameter(weights.to(dtype)) for dtype in (torch.float32, torch.float64)]
    optimizers = [torch.optim.NAdam([own], lr=learning_rate, foreach=False) for own in torchs]
    moved = torch.zeros(())
    for row in nadam.schedule(500, learning_rate):
        size = 10 ** torch.empty(1000).uniform_(-3, 3, generator=generator)
        gradient = size * torch.randn(1000, generator=generator)
        for own, optimizer in zip(torchs, optimizers, strict=True):
            own.grad = gradient.to(own.dtype)
            optimizer.step()
        before = flat.clone()
        nadam.step(flat, first, second, gradient, row)
        moved += (flat - before).norm()
    float32, truth = (own.detach() for own in torchs)
    assert (flat - float32).norm() <= 1e-6 * moved
    assert (flat - truth).norm() <= 2 * (float32 - truth).norm()


def test_the_schedule_is_that_of_each_step() -> None:
    schedule = nadam.schedule(20, 3e-3)
    assert (schedule.shape, schedule.dtype) == ((20, 3), torch.float32)
    torch.testing.assert_close(nadam.schedule(7, 3e-3), schedule[:7], rtol=0, atol=0)
    assert (schedule[:, :2] < 0).all()
    # Without bias correction in the end: 1 / (1 - 0.999^t) is 1.
    assert nadam.schedule(20_000, 3e-3)[-1, 2] == pytest.approx(1, abs=1e-6)
