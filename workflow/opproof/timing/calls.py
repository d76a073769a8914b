"""Turns a contender into the calls that are timed: a direction, and a way of calling."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from opproof.operators import Activation
from opproof.timing.blocks import Function
from opproof.timing.contenders import Contender

# forward: without grad, as in inference. backward: the operator's alone where there is one, else
# through autograd. both: forward and backward through autograd, alike for all.
DIRECTIONS = ("forward", "backward", "both")

_CALLS_IN_GRAPH = 32


@dataclass(frozen=True)
class Call:
    """A function to time, how it is called, and how many times each call of it does the work.

    `mode` is "allocated" (the result is new memory, as in use), "out" (it goes where it is told
    to) or "graph" (replayed from a CUDA graph, as the engine trains: launches and memory were
    settled when it was captured). `via` is "operator" or "autograd".
    """

    mode: str
    via: str
    function: Function
    works: int = 1


@dataclass(frozen=True)
class Inputs:
    """What all contenders are given: x, a gradient of y's shape, and memory for the result."""

    x: Tensor
    grad: Tensor
    result: Tensor

    def bytes_moved(self, direction: str) -> int:
        """Return the bytes that must be read and written: each input once, each result once.

        forward: x, y; backward: the gradient, x, the result (as large as x).
        """
        x, y = self.x.nbytes, self.grad.nbytes
        return {"forward": x + y, "backward": y + 2 * x, "both": 3 * x + 2 * y}[direction]


def inputs(baseline: Contender, direction: str, x: Tensor) -> Inputs:
    """Return x, a gradient from N(0, 1), the same every time, and memory for the result."""
    with torch.no_grad():
        y = baseline.forward(x)
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(y.shape, generator=generator).to(y.device)
    return Inputs(x, grad, y if direction == "forward" else torch.empty_like(x))


def of_contender(contender: Contender, direction: str, given: Inputs) -> Iterator[Call]:
    """Yield the contender's calls in a direction. Raises what its forward does, where it needs it.

    forward and backward are to be called without grad, both with it.
    """
    if direction == "forward":
        yield Call("allocated", "operator", partial(contender.forward, given.x))
        if contender.forward_out:
            out = partial(contender.forward_out, given.x, given.result)
            yield Call("out", "operator", out)
    elif direction == "both":
        x = given.x.detach().requires_grad_()
        function = partial(_forward_and_backward, contender.forward, x, given.grad)
        yield Call("allocated", "autograd", function)
    elif contender.backward is None:
        yield Call("allocated", "autograd", _backward_by_autograd(contender, given))
    else:
        saved = contender.saved(given.x)
        yield Call("allocated", "operator", partial(contender.backward, given.grad, *saved))
        if contender.backward_out:
            out = partial(contender.backward_out, given.grad, *saved, given.result)
            yield Call("out", "operator", out)


def of_copy(given: Inputs) -> Call:
    """Return a copy of x into memory that is there, the yardstick of bandwidth."""
    return Call("out", "operator", partial(torch.empty_like(given.x).copy_, given.x))


def can_be_captured(call: Call, direction: str) -> bool:
    """Tell whether the call from a graph shows something else.

    An `out` does not: a graph settles memory anyway. And autograd runs a backward on the stream of
    its forward, where a capture of the backward alone does not see it.
    """
    return call.mode == "allocated" and (direction, call.via) != ("backward", "autograd")


def captured(call: Call) -> Call:
    """Return what replays so many of the call from a CUDA graph.

    Raises RuntimeError where it can't be captured, which leaves the GPU as it was.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # what a first call on a stream sets up can't be captured
        call.function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            for _ in range(_CALLS_IN_GRAPH):
                call.function()
    except torch.AcceleratorError as error:  # else taken for a fault of the machine
        raise RuntimeError(f"in a CUDA graph: {error}") from error
    return Call("graph", call.via, graph.replay, _CALLS_IN_GRAPH)


def _forward_and_backward(forward: Activation, x: Tensor, grad: Tensor) -> Tensor:
    return torch.autograd.grad(forward(x), x, grad)[0]


def _backward_by_autograd(contender: Contender, given: Inputs) -> Function:
    x = given.x.detach().requires_grad_()
    with torch.enable_grad():
        y = contender.forward(x)
    return partial(torch.autograd.grad, y, x, given.grad, retain_graph=True)
