"""Verification on a GPU: what only there can be wrong is refused there for its own reason."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from opproof.verify import gpu

CHECKS = {"device": gpu.stays_on_device, "stream": gpu.side_stream, "graph": gpu.cuda_graph}


def by_way_of_the_cpu(x: Tensor) -> Tensor:
    return F.gelu(x.cpu()).to(x.device)


def left_on_the_cpu(x: Tensor) -> Tensor:
    return F.gelu(x.to("cpu", non_blocking=True))


def with_a_look_at_the_values(x: Tensor) -> Tensor:
    return F.gelu(x) if bool((x < 1e9).all()) else x


class OnDefaultStream(torch.autograd.Function):
    """F.gelu on the default stream, whatever the current one is."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        y = torch.empty_like(x)
        with torch.cuda.stream(torch.cuda.default_stream(x.device)):
            return torch.ops.aten.gelu.out(x, out=y)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        return torch.ops.aten.gelu_backward(grad, *ctx.saved_tensors)


@pytest.mark.parametrize("check", CHECKS)
def test_what_is_right_passes(check: str) -> None:
    assert CHECKS[check](F.gelu, line()) is None


@pytest.mark.parametrize(
    ("activation", "check", "fault"),
    [
        (by_way_of_the_cpu, "device", "RuntimeError: .*synchroniz"),
        (by_way_of_the_cpu, "graph", "RuntimeError: .*captur"),
        (left_on_the_cpu, "device", "RuntimeError: |forward: the result is on cpu, not on cuda"),
        (with_a_look_at_the_values, "device", "RuntimeError: .*synchroniz"),
        (with_a_look_at_the_values, "graph", "RuntimeError: .*captur"),
        (
            OnDefaultStream.apply,
            "stream",
            r"forward: \d+ of 10007 results differ on another stream than default$",
        ),
        (OnDefaultStream.apply, "graph", "RuntimeError: .*captur|forward: .* a replay differ"),
    ],
)
def test_what_is_wrong_on_a_gpu_alone_is_refused_for_it(
    activation: Callable[[Tensor], Tensor], check: str, fault: str
) -> None:
    assert re.match(fault, str(CHECKS[check](activation, line())))
    assert gpu.stays_on_device(F.gelu, line()) is None  # the GPU is as before


def line() -> Tensor:
    return torch.linspace(-12, 12, 10_007, device="cuda")
