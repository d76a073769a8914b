"""The gate for operators of the dispatcher: their rules for autograd, fakes and torch.compile."""

from collections.abc import Iterable
from typing import TypeGuard

import torch
from torch import Tensor
from torch._library.custom_ops import CustomOpDef
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode

from opproof.operators import Activation
from opproof.verify.outcome import gate

Registered = OpOverload | CustomOpDef


def is_registered(operator: Activation) -> TypeGuard[Registered]:
    """Say whether it is an operator of the dispatcher, which opcheck is for."""
    return isinstance(operator, Registered)


def qualified_name(operator: Registered) -> str:
    """Return "namespace::name"."""
    if isinstance(operator, CustomOpDef):
        return operator._qualname
    return operator.name().partition(".")[0]


def has_vmap_rule(operator: Registered) -> bool:
    """Say whether torch.vmap has more than a loop for it: a rule, or calls it is composed of."""
    name = qualified_name(operator)
    return any(
        torch._C._dispatch_has_kernel_for_dispatch_key(name, key)
        for key in ("FuncTorchBatched", "CompositeImplicitAutograd")
    )


def opcheck(operator: Registered, inputs: Iterable[Tensor]) -> str | None:
    """Run all of torch.library.opcheck on each input, and hold strides against the fake's.

    That opcheck leaves out on a CPU before torch 2.12, and torch.compile then reads wrong elements.
    """
    for x in inputs:
        if fault := _stride_fault(operator, x) or _opcheck(operator, x):
            return f"{x.dtype}, shape {tuple(x.shape)}, strides {x.stride()}: {fault}"
    return None


@gate
def _opcheck(operator: Registered, x: Tensor) -> str | None:
    torch.library.opcheck(operator, (x.detach().requires_grad_(),))
    return None


@gate
def _stride_fault(operator: Registered, x: Tensor) -> str | None:
    real = _strides(operator, x.detach())
    mode = FakeTensorMode()
    substitute = mode.from_tensor(x.detach())
    with mode:
        fake = _strides(operator, substitute)
    for what, strides in real.items():
        if strides != fake[what]:
            return f"{what}: strides {strides}, but the fake says {fake[what]}"
    return None


def _strides(operator: Registered, x: Tensor) -> dict[str, tuple[int, ...]]:
    """Return the strides of result and gradient, as far as they tell anything."""
    x = x.requires_grad_()
    y = operator(x)
    (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
    return {"forward": _telling(y), "backward": _telling(gradient)}


def _telling(result: Tensor) -> tuple[int, ...]:
    """Return strides without those that address nothing: of sizes 0 and 1."""
    if not result.numel():
        return ()
    return tuple(
        stride for size, stride in zip(result.shape, result.stride(), strict=True) if size > 1
    )
