"""The gates on a GPU: stay on it, on the current stream, and in a CUDA graph.

Each takes an operator, an input x on the GPU and the shape of the result, x's where it is None.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from opproof.operators import Activation
from opproof.verify.evaluation import difference, evaluate
from opproof.verify.outcome import gate, in_one_line

Shape = tuple[int, ...] | None

# Some 10 ms: long enough that work which does not wait for it is done before.
_CYCLES = 20_000_000


@gate
def stays_on_device(operator: Activation, x: Tensor, shape: Shape = None) -> str | None:
    """Let neither result nor gradient leave the GPU, nor the host wait for it."""
    evaluate(operator, x, shape=shape)  # the first call may load kernels
    torch.cuda.synchronize()
    with _no_synchronisation():
        found = evaluate(operator, x, shape=shape)
    for direction, values in found.items():
        if values.device != x.device:
            return f"{direction}: the result is on {values.device}, not on {x.device}"
    return None


@gate
def side_stream(operator: Activation, x: Tensor, shape: Shape = None) -> str | None:
    """Use the current stream: wait for what it produces first, be waited for by what follows.

    The default stream's own bits are what is compared with. Once the side stream is late, and an
    operator on another would read x too early; once the default stream is, and would write late.
    """
    expected = evaluate(operator, x, shape=shape)
    torch.cuda.synchronize()
    side = torch.cuda.Stream(x.device)
    for late in (side, torch.cuda.default_stream(x.device)):
        with torch.cuda.stream(side):
            buffer = torch.zeros_like(x)
            side.synchronize()
            with torch.cuda.stream(late):
                torch.cuda._sleep(_CYCLES)
            buffer.copy_(x)
            found = {
                direction: values.clone()
                for direction, values in evaluate(operator, buffer, shape=shape).items()
            }
            buffer.zero_()
        torch.cuda.synchronize()
        if fault := difference(expected, found, "results differ on another stream than default"):
            return fault
    return None


@gate
def cuda_graph(operator: Activation, x: Tensor, shape: Shape = None) -> str | None:
    """Capture both directions, replay them with other data, and compare with eager bit by bit."""
    static = x.clone()
    other = -0.5 * x
    expected = evaluate(operator, other, shape=shape)
    side = torch.cuda.Stream(x.device)
    side.wait_stream(torch.cuda.current_stream(x.device))
    with torch.cuda.stream(side):
        for _ in range(2):
            evaluate(operator, static, shape=shape)
    torch.cuda.current_stream(x.device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            found = evaluate(operator, static, shape=shape)
    except torch.AcceleratorError as error:
        # The driver's word for what may not be captured; any other is the machine's fault.
        if "captur" not in str(error):
            raise
        return in_one_line(RuntimeError(str(error)))
    static.copy_(other)
    graph.replay()
    torch.cuda.synchronize()
    return difference(expected, found, "results of a replay differ from eager ones")


@contextmanager
def _no_synchronisation() -> Iterator[None]:
    """Raise where torch makes the host wait for the GPU."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
