"""A function captured in a CUDA graph: launched as one, without Python between its kernels."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Captured:
    """Replays `function`, a function of tensors that launches kernels alone, for inputs like these.

    Raises what the function does, or RuntimeError where it waits for the GPU, uses another stream
    than the current one, or does for the first time what libraries do once (see `warm_up`).
    """

    def __init__(self, function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> None:
        self._inputs = [torch.zeros_like(tensor) for tensor in inputs]
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return what the function gives for these; the next call overwrites it."""
        for here, given in zip(self._inputs, inputs, strict=True):
            here.copy_(given)
        self._graph.replay()
        return self._result


def warm_up(function: Callable[[], object], changed: Sequence[Tensor]) -> None:
    """Call a function that will be captured, and leave the tensors that it changes as they were.

    What libraries do at a first call, as loading kernels and taking memory, can't be captured.
    """
    before = [tensor.clone() for tensor in changed]
    side = torch.cuda.Stream()  # a capture's stream is not the default one either
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        function()
    torch.cuda.current_stream().wait_stream(side)
    for tensor, content in zip(changed, before, strict=True):
        tensor.copy_(content)
