"""Rules that C++ can't register by the stable ABI: fake tensors, gradients of both orders, vmap.

Autocast has none: an operator takes what it is given, and computes 16-bit input in float32, as
F.gelu does.

What torch's rules for registered operators can't (2.11 to 2.14): torch.func.grad is refused
(pytorch/pytorch#168393), and in forward mode (torch.func.jvp) derivatives are silently zero.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def complete_elementwise(namespace: str, fake: Callable[..., Tensor]) -> None:
    """Complete forward(x), backward(grad, x) and, if there, double_backward(grad_grad, grad, x).

    All return a tensor of x's shape and dtype, of the strides of fake(*inputs).
    """
    operators = getattr(torch.ops, namespace)
    names = ["forward", "backward"]
    if hasattr(operators, "double_backward"):
        names.append("double_backward")
    for name in names:
        if not _has_kernel(f"{namespace}::{name}", "Meta"):
            torch.library.register_fake(f"{namespace}::{name}", fake)
        _register_vmap(f"{namespace}::{name}", getattr(operators, name).default)

    def gradient(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return operators.backward(grad, x)

    _register_autograd(f"{namespace}::forward", gradient)
    if "double_backward" in names:

        def second_gradient(ctx: Any, grad_grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
            grad, x = ctx.saved_tensors
            needs_grad, needs_x = ctx.needs_input_grad
            return (
                operators.backward(grad_grad, x) if needs_grad else None,
                operators.double_backward(grad_grad, grad, x) if needs_x else None,
            )

        _register_autograd(f"{namespace}::backward", second_gradient)


def like_x(*inputs: Tensor) -> Tensor:
    """Return a tensor of the strides that x, the last input, or else a dense copy of it has."""
    return torch.empty_like(inputs[-1])


def like_product(*inputs: Tensor) -> Tensor:
    """Return a tensor of the strides that a composition of ATen calls gives its result."""
    return functools.reduce(torch.mul, inputs, inputs[0])


@functools.cache
def complete_users(op: str) -> None:
    """Complete a user's N::forward that has no gradient, but a backward(grad, x) beside it.

    Raises NotImplementedError for an operator that has neither.
    """
    namespace, _, name = op.partition("::")
    keys = ("CompositeImplicitAutograd", "Autograd", "AutogradCPU", "AutogradCUDA")
    if any(_has_kernel(op, key) for key in keys):
        return
    if name != "forward" or not hasattr(getattr(torch.ops, namespace), "backward"):
        raise NotImplementedError(
            f"has no gradient; allowed: a kernel for Autograd, or {namespace}::forward(Tensor x) "
            f"with {namespace}::backward(Tensor grad, Tensor x) beside it"
        )
    complete_elementwise(namespace, like_x)


def complete_out(namespace: str) -> None:
    """Complete forward_out(x, out) and backward_out(grad, x, out), which return nothing."""
    for name in ("forward_out", "backward_out"):
        torch.library.register_fake(f"{namespace}::{name}", lambda *inputs: None)


def complete_pooled(namespace: str) -> None:
    """Complete pooled_forward(x), pooled_backward(grad, x), pooled_double_backward(...).

    x is [..., height, width], grad as the result [..., height // 2, width // 2]; all contiguous.
    """
    operators = getattr(torch.ops, namespace)

    @torch.library.register_fake(f"{namespace}::pooled_forward")
    def _(x: Tensor) -> Tensor:
        return x.new_empty([*x.shape[:-2], x.shape[-2] // 2, x.shape[-1] // 2])

    @torch.library.register_fake(f"{namespace}::pooled_backward")
    def _(grad: Tensor, x: Tensor) -> Tensor:
        return x.new_empty(x.shape)

    @torch.library.register_fake(f"{namespace}::pooled_double_backward")
    def _(grad_grad: Tensor, grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return grad.new_empty(grad.shape), x.new_empty(x.shape)

    for name in ("pooled_forward", "pooled_backward", "pooled_double_backward"):
        _register_vmap(f"{namespace}::{name}", getattr(operators, name).default)

    def gradient(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return operators.pooled_backward(grad, x)

    def second_gradient(ctx: Any, grad_grad: Tensor) -> tuple[Tensor, Tensor]:
        return operators.pooled_double_backward(grad_grad, *ctx.saved_tensors)

    _register_autograd(f"{namespace}::pooled_forward", gradient)
    _register_autograd(f"{namespace}::pooled_backward", second_gradient)


def _has_kernel(operator: str, key: str) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(operator, key)


def _register_autograd(operator: str, rule: Callable[..., Any]) -> None:
    def save_inputs(ctx: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    torch.library.register_autograd(operator, rule, setup_context=save_inputs)


def _register_vmap(name: str, operator: Callable[..., Any]) -> None:
    """Let the batch be one more leading dimension: all shapes end with those that matter."""

    def batched(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Any, Any]:
        leading = [
            tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(inputs, in_dims, strict=True)
        ]
        result = operator(*leading)
        return result, tuple(0 for _ in result) if isinstance(result, tuple) else 0

    torch.library.register_vmap(name, batched)
