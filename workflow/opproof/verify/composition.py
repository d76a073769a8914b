"""Findings on what else of torch it goes with: torch.compile, vmap and autocast."""

import torch
from torch import Tensor

from opproof.operators import Activation
from opproof.verify import registered
from opproof.verify.evaluation import DIRECTIONS, difference, evaluate
from opproof.verify.outcome import Finding, finding

# How inductor says that there is no compiler for it: a fault of the machine, not of the operator.
_NO_COMPILER = ("InvalidCxxCompiler", "TritonMissing", "Failed to find C compiler")


@finding
def compiles(activation: Activation, limits: dict[str, float], device: torch.device) -> Finding:
    """torch.compile(fullgraph=True) with inductor gives eager's results, forward and backward.

    In float32, each within its limit of the truth and so within twice that of each other.
    """
    x = torch.linspace(-6, 6, 1003, device=device)
    torch.compiler.reset()
    try:
        # A function of our own: what is compiled may be no Python function.
        compiled = torch.compile(lambda x: activation(x), fullgraph=True, dynamic=False)
        found = evaluate(compiled, x)
    except Exception as error:
        if any(words in f"{type(error).__name__} {error}" for words in _NO_COMPILER):
            return Finding(None, "torch.compile finds no compiler")
        raise
    finally:
        torch.compiler.reset()
    eager = evaluate(activation, x)
    if difference(eager, found) is None:
        return Finding(True, "bit by bit as eager")
    details, close = [], True
    for direction in DIRECTIONS:
        apart = (found[direction].double() - eager[direction].double()).abs().max().item()
        close &= apart <= 2 * limits[direction]
        details.append(f"{direction} differs from eager by up to {apart:.3g}")
    return Finding(close, "; ".join(details))


@finding
def vmap(activation: Activation, device: torch.device) -> Finding:
    """torch.vmap gives what one call gives, for either dimension, forward and backward."""
    x = torch.linspace(-6, 6, 8 * 37, device=device).reshape(8, 37)
    expected = evaluate(activation, x)
    for dimension in (0, 1):

        def mapped(values: Tensor, dimension: int = dimension) -> Tensor:
            return torch.vmap(activation, in_dims=dimension, out_dims=dimension)(values)

        words = f"results differ from one call's, over dimension {dimension}"
        if fault := difference(expected, evaluate(mapped, x), words):
            return Finding(False, fault)
    slow = registered.is_registered(activation) and not registered.has_vmap_rule(activation)
    return Finding(True, "by torch's slow fallback, a call for each" if slow else None)


@finding
def autocast(activation: Activation, dtypes: list[torch.dtype], device: torch.device) -> Finding:
    """Under autocast to bfloat16 the result keeps the input's dtype, as F.gelu's does."""
    for dtype in dtypes:
        x = torch.linspace(-6, 6, 37, dtype=dtype, device=device).requires_grad_()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            y = activation(x)
        if y.dtype != dtype:
            return Finding(False, f"{y.dtype} for {dtype}")
        y.sum().backward()
    return Finding(True)
