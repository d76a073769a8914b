"""What is timed against what: the functions that a backend has for an operation."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from opproof import operators
from opproof.backends import BASELINE
from opproof.operators import Activation
from opproof.settings import GELU, Backend

# torch.compile's of the baseline torch; of another the baseline's name follows.
COMPILE = "compile"

_ATEN = torch.ops.aten


def _the_input(x: Tensor) -> tuple[Tensor, ...]:
    return (x,)


@dataclass(frozen=True)
class Contender:
    """A backend's functions for one operation; None where it has none.

    `backward(grad, *saved)` is the operator alone, without autograd, on what `saved(x)` says that
    the forward keeps. `forward_out(x, out)` and `backward_out(grad, *saved, out)` fill `out`.
    """

    backend: str
    forward: Activation
    backward: Callable[..., Tensor] | None = None
    forward_out: Callable[[Tensor, Tensor], object] | None = None
    backward_out: Callable[..., object] | None = None
    saved: Callable[[Tensor], tuple[Tensor, ...]] = _the_input
    is_compiled: bool = False


def _gelu_out(x: Tensor, out: Tensor) -> None:
    _ATEN.gelu.out(x, out=out)


def _gelu_backward_out(grad: Tensor, x: Tensor, out: Tensor) -> None:
    _ATEN.gelu_backward.grad_input(grad, x, grad_input=out)


def _three_operators(x: Tensor) -> Tensor:
    return F.gelu(F.avg_pool2d(F.gelu(x), 2))


def _three_operators_backward(
    grad: Tensor, x: Tensor, activated: Tensor, averaged: Tensor
) -> Tensor:
    """Do what autograd does for the three, without its overhead."""
    grad = _ATEN.gelu_backward.default(grad, averaged)
    grad = _ATEN.avg_pool2d_backward.default(
        grad, activated, [2, 2], [2, 2], [0, 0], False, True, None
    )
    return _ATEN.gelu_backward.default(grad, x)


def _saved_by_three_operators(x: Tensor) -> tuple[Tensor, ...]:
    activated = F.gelu(x)
    return x, activated, F.avg_pool2d(activated, 2)


_TORCH = Contender(BASELINE, F.gelu, _ATEN.gelu_backward.default, _gelu_out, _gelu_backward_out)
_TORCH_POOLED = Contender(
    BASELINE, _three_operators, _three_operators_backward, saved=_saved_by_three_operators
)


def of_reference(reference: str, name: str) -> Contender:
    """Return a reference as the baseline of its family. Raises as operators.resolve_reference."""
    if reference == GELU:
        return dataclasses.replace(_TORCH, backend=name)
    return Contender(name, operators.resolve_reference(reference))


def three_operators(baseline: Contender) -> Contender:
    """Return a baseline's activation, average pool and activation as three operators."""
    if baseline.forward is _TORCH.forward:
        return dataclasses.replace(_TORCH_POOLED, backend=baseline.backend)
    activation = baseline.forward
    return Contender(baseline.backend, lambda x: activation(F.avg_pool2d(activation(x), 2)))


def compiled(baseline: Contender) -> Contender:
    """Return torch.compile's of a baseline; it compiles for each shape, as training has it."""
    import torch._functorch.config
    import torch._inductor.config

    # Else a backward may reuse its inputs' memory, and can't be called twice, as it is here.
    torch._functorch.config.donated_buffer = False
    # Else processes that are to compile start up while others are timed.
    torch._inductor.config.compile_threads = 1
    name = COMPILE if baseline.backend == BASELINE else f"{COMPILE} {baseline.backend}"
    return Contender(name, torch.compile(baseline.forward, dynamic=False), is_compiled=True)


def of_backend(backend: Backend, output: Path) -> Contender:
    """Return a backend's activation. Raises as operators.resolve."""
    if backend.op == GELU:
        return dataclasses.replace(_TORCH, backend=backend.name)
    return _with_operators(backend.name, backend.op, operators.resolve(backend, output))


def of_pooled(backend: Backend, output: Path) -> Contender | None:
    """Return a backend's activation, pool and activation in one, None if it has none."""
    operator = operators.resolve_pooled(backend, output)
    if operator is None or backend.pooled is None:
        return None
    return _with_operators(backend.name, backend.pooled, operator)


def _with_operators(name: str, op: str, forward: Activation) -> Contender:
    """Add what is registered beside NAMESPACE::[...]forward: backward, and both with an out."""
    namespace, _, operator = op.rpartition("::")
    if not namespace or not operator.endswith("forward"):
        return Contender(name, forward)
    prefix = operator.removesuffix("forward")

    def beside(suffix: str) -> Any:
        packet = getattr(getattr(torch.ops, namespace), prefix + suffix, None)
        return getattr(packet, "default", None)

    return Contender(
        name, forward, beside("backward"), beside("forward_out"), beside("backward_out")
    )
