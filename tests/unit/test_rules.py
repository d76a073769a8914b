"""The rules that Python gives to operators of C++: fakes, gradients, vmap; what builds on them."""

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from opproof import library, operators, rules
from opproof.errors import BackendError
from opproof.settings import Backend
from tests.unit.test_build import built
from tests.unit.test_operators import LAYOUTS, images
from tests.unit.verdicts import coarse, verdict

__all__ = ["coarse"]

NAMESPACES = ("opproof_aten_gelu", "opproof_gelu")
ELEMENTWISE = {"forward": 1, "backward": 2, "double_backward": 3}
POOLED = {"pooled_forward": 1, "pooled_backward": 2, "pooled_double_backward": 3}
DIFFERENTIABLE = ("forward", "backward", "pooled_forward", "pooled_backward")

# Where the inputs of a vmap may have their batch; None: they have none.
PLACES = (0, 1, -1, None)


@pytest.fixture(scope="module", autouse=True)
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = built(tmp_path_factory)
    for name in ("aten_gelu", "gelu"):
        library.load(output, name)
    return output


@pytest.fixture
def gelu() -> SimpleNamespace:
    return torch.ops.opproof_gelu


@pytest.fixture(autouse=True)
def fresh_compiler(arithmetic: None) -> None:
    torch.compiler.reset()


def inputs(op: str, x: Tensor) -> list[Tensor]:
    """Return what the operator takes for x: each a tensor of its own layout, x the last."""
    count = {**ELEMENTWISE, **POOLED}[op]
    above = x.new_ones(x.shape)
    if op.startswith("pooled"):
        pooled = x.new_ones([*x.shape[:-2], x.shape[-2] // 2, x.shape[-1] // 2])
        return [[x], [pooled, x], [above, pooled, x]][count - 1]
    return [above] * (count - 1) + [x]


def as_tuple(results: Any) -> tuple[Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)


def layout(tensor: Tensor) -> tuple[Any, ...]:
    """Return dtype, shape, and the strides that address anything."""
    telling = [s for n, s in zip(tensor.shape, tensor.stride(), strict=True) if n > 1]
    return tensor.dtype, tensor.shape, telling if tensor.numel() else None


def faked(operator: Callable[..., Any], arguments: list[Tensor]) -> tuple[Tensor, ...]:
    """Return what torch.compile is told that the operator returns."""
    mode = FakeTensorMode()
    substitutes = [mode.from_tensor(argument) for argument in arguments]
    with mode:
        return as_tuple(operator(*substitutes))


# Fakes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("of_x", LAYOUTS)
@pytest.mark.parametrize("op", ELEMENTWISE)
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_fake_result_lies_as_the_real_one(
    namespace: str, op: str, of_x: str, dtype: torch.dtype
) -> None:
    operator = getattr(getattr(torch.ops, namespace), op).default
    *others, x = inputs(op, LAYOUTS[of_x](images(dtype)))
    reverse = [*range(x.dim())][::-1]
    for lie in (lambda a: a, lambda a: a.permute(reverse).contiguous().permute(reverse)):
        arguments = [*map(lie, others), x]
        real = as_tuple(operator(*arguments))
        assert [*map(layout, faked(operator, arguments))] == [*map(layout, real)]


@pytest.mark.parametrize("of_x", [name for name in LAYOUTS if name not in ("0-dim", "empty")])
@pytest.mark.parametrize("op", POOLED)
def test_a_fake_pooled_result_lies_as_the_real_one(
    gelu: SimpleNamespace, op: str, of_x: str
) -> None:
    operator = getattr(gelu, op).default
    for x in (LAYOUTS[of_x](images(torch.float32)), torch.empty(0, 4, 6), torch.ones(5, 7)):
        arguments = inputs(op, x)
        real = as_tuple(operator(*arguments))
        assert [*map(layout, faked(operator, arguments))] == [*map(layout, real)]


# Gradients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_rules_are_registered_as_torch_wants_them(gelu: SimpleNamespace, op: str) -> None:
    arguments = [argument.requires_grad_() for argument in inputs(op, images(torch.float32))]
    torch.library.opcheck(getattr(gelu, op).default, tuple(arguments))


@pytest.mark.parametrize("needed", ["all", "first", "last"])
@pytest.mark.parametrize(
    ("check", "op"),
    [
        *((torch.autograd.gradcheck, op) for op in DIFFERENTIABLE),
        *((torch.autograd.gradgradcheck, op) for op in DIFFERENTIABLE if "forward" in op),
    ],
)
def test_derivatives_of_both_orders_are_those_of_what_needs_them(
    gelu: SimpleNamespace, check: Callable[..., bool], op: str, needed: str
) -> None:
    x = images(torch.float64)[:1, :2]
    arguments = [torch.rand_like(a) if a is not x else x for a in inputs(op, x)]
    chosen = {"all": arguments, "first": arguments[:1], "last": arguments[-1:]}[needed]
    for argument in chosen:
        argument.requires_grad_()
    assert check(getattr(gelu, op), arguments)


def test_what_needs_no_gradient_costs_no_call(gelu: SimpleNamespace) -> None:
    """The backward of backward has two halves; each is called for its own input alone."""
    called = {"grad": "opproof_gelu::backward", "x": "opproof_gelu::double_backward"}
    for needing, expected in called.items():
        grad, x = torch.randn(2, 5)
        {"grad": grad, "x": x}[needing].requires_grad_()
        result = gelu.backward(grad, x).sum()
        with torch.profiler.profile() as profile:
            result.backward()
        names = {event.name for event in profile.events() if event.name.startswith("opproof")}
        assert names == {expected}


# vmap ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("namespace", "op"),
    [*itertools.product(NAMESPACES, ELEMENTWISE), *(("opproof_gelu", op) for op in POOLED)],
)
def test_vmap_is_the_loop_wherever_the_batch_is(namespace: str, op: str) -> None:
    operator = getattr(getattr(torch.ops, namespace), op)
    rows = [inputs(op, x) for x in torch.randn(3, 2, 6, 5, dtype=torch.float64)]
    for places in itertools.product(PLACES, repeat=len(rows[0])):
        if set(places) == {None}:
            continue
        columns = [*zip(places, zip(*rows, strict=True), strict=True)]
        batched = [
            column[0] if place is None else torch.stack(column).movedim(0, place)
            for place, column in columns
        ]
        looped = [
            as_tuple(operator(*(column[0 if place is None else i] for place, column in columns)))
            for i in range(3)
        ]
        mapped = as_tuple(torch.vmap(operator, in_dims=places)(*batched))
        for result, expected in zip(mapped, zip(*looped, strict=True), strict=True):
            torch.testing.assert_close(result, torch.stack(expected), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("op", ["forward", "pooled_forward"])
def test_vmap_of_vmap_and_its_gradient(gelu: SimpleNamespace, op: str) -> None:
    operator = getattr(gelu, op)
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    mapped = torch.vmap(torch.vmap(operator), in_dims=1, out_dims=1)(x)
    assert torch.equal(mapped, operator(x))
    weights = torch.randn_like(mapped)
    (gradient,) = torch.autograd.grad((weights * mapped).sum(), x)
    (expected,) = torch.autograd.grad((weights * operator(x)).sum(), x)
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("op", ["forward", "pooled_forward"])
def test_known_limits_are_as_documented(gelu: SimpleNamespace, op: str) -> None:
    """When torch mends one of them, the docstring of rules.py is to change."""
    operator, x = getattr(gelu, op), torch.randn(2, 4)
    with pytest.raises(RuntimeError, match="must override the setup_context staticmethod"):
        torch.func.grad(lambda x: operator(x).sum())(x)
    _, tangent = torch.func.jvp(operator, (x,), (torch.ones_like(x),))
    assert not tangent.any()
    for limit in ("pytorch#168393", "torch.func.jvp"):
        assert limit in str(rules.__doc__)


# torch.compile and autocast -----------------------------------------------------------------------


class Model(nn.Module):
    """Layers around both operators, as in LeNet-5."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3)
        self.linear = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.ops.opproof_gelu.pooled_forward(self.convolution(x))
        return torch.ops.opproof_gelu.forward(self.linear(x.flatten(1)))


def gradients(model: Callable[[Tensor], Tensor], of: Model, x: Tensor) -> list[Tensor]:
    """Return the result, and the gradients for x and for all parameters."""
    x = x.detach().requires_grad_()
    y = model(x)
    return [y, *torch.autograd.grad(y.square().sum(), [x, *of.parameters()])]


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_model_compiles_as_one_graph_forward_and_backward(backend: str) -> None:
    torch.manual_seed(0)
    model, x = Model(), torch.randn(3, 1, 10, 10)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    # inductor has its own order of summation around the operators.
    exact = {"rtol": 0, "atol": 0} if backend == "aot_eager" else {"rtol": 1e-4, "atol": 1e-6}
    results = zip(gradients(compiled, model, x), gradients(model, model, x), strict=True)
    for result, expected in results:
        torch.testing.assert_close(result, expected, **exact)


@pytest.mark.parametrize("counter", [CompileCounter, CompileCounterWithBackend])
def test_another_batch_size_is_not_compiled_again(counter: type) -> None:
    counter = counter() if counter is CompileCounter else counter("aot_eager")
    model = Model()
    compiled = torch.compile(model, fullgraph=True, backend=counter, dynamic=True)
    for batch in (17, 16, 33, 64):  # torch's convolution has another graph for less than 16
        results = gradients(compiled, model, torch.randn(batch, 1, 10, 10))
        assert results[0].shape == (batch, 5)
    assert counter.frame_count == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("op", ["forward", "pooled_forward"])
def test_under_autocast_the_dtype_stays(gelu: SimpleNamespace, op: str, dtype: torch.dtype) -> None:
    x = torch.randn(3, 4, 4).to(dtype).requires_grad_()
    expected = getattr(gelu, op)(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = getattr(gelu, op)(x)
        (gradient,) = torch.autograd.grad(y.sum(), x)
    assert y.dtype == gradient.dtype == dtype
    assert torch.equal(y, expected)


# A user's library ---------------------------------------------------------------------------------

SCHEMAS = {
    "forward": "(Tensor x) -> Tensor",
    "backward": "(Tensor grad, Tensor x) -> Tensor",
    "double_backward": "(Tensor grad_grad, Tensor grad, Tensor x) -> Tensor",
}


def cube(x: Tensor) -> Tensor:
    return x.detach() ** 3


def cube_backward(grad: Tensor, x: Tensor) -> Tensor:
    return grad.detach() * 3 * x.detach() ** 2


def cube_double_backward(grad_grad: Tensor, grad: Tensor, x: Tensor) -> Tensor:
    return grad_grad.detach() * grad.detach() * 6 * x.detach()


KERNELS = {"forward": cube, "backward": cube_backward, "double_backward": cube_double_backward}


@pytest.fixture
def users(request: pytest.FixtureRequest) -> Callable[..., torch.library.Library]:
    """Return a function that registers some of KERNELS, as a user's C++ does."""
    namespace = "users_" + "".join(c if c.isalnum() else "_" for c in request.node.name)

    def register(*names: str, key: str = "CPU") -> torch.library.Library:
        registered = torch.library.Library(namespace, "DEF")
        request.addfinalizer(registered._destroy)
        for name in names:
            registered.define(f"{name}{SCHEMAS[name]}")
            registered.impl(name, KERNELS[name], key)
        return registered

    return register


def resolved(registered: torch.library.Library, name: str = "forward") -> operators.Activation:
    return operators.resolve(Backend("mine", f"{registered.ns}::{name}"), Path())


def test_a_users_forward_and_backward_get_the_rules(users: Callable[..., Any]) -> None:
    operator = resolved(users("forward", "backward", "double_backward"))
    x = images(torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(operator, x)
    assert torch.autograd.gradgradcheck(operator, x)
    torch.library.opcheck(operator, (x,))
    compiled = torch.compile(lambda x: operator(x), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), x**3)
    assert torch.equal(torch.vmap(operator, in_dims=1, out_dims=1)(x), x**3)


def test_a_users_backward_alone_is_differentiated_once(users: Callable[..., Any]) -> None:
    operator = resolved(users("forward", "backward"))
    assert torch.autograd.gradcheck(operator, images(torch.float64).requires_grad_())


def test_a_users_own_gradient_is_left_alone(users: Callable[..., Any]) -> None:
    registered = users("forward", "backward")
    name = f"{registered.ns}::forward"
    torch.library.register_autograd(name, lambda ctx, grad: 7 * grad, lib=registered)
    x = torch.ones(2, requires_grad=True)
    for _ in range(2):
        resolved(registered)(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [14.0, 14.0]


def test_what_is_composed_of_torchs_calls_is_left_alone(users: Callable[..., Any]) -> None:
    registered = users("backward")
    registered.define("forward(Tensor x) -> Tensor")
    registered.impl("forward", F.softplus, "CompositeImplicitAutograd")
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(resolved(registered), x)


def test_a_users_own_fake_is_left_alone(users: Callable[..., Any]) -> None:
    registered = users("forward", "backward")
    registered.impl("forward", lambda x: x.new_empty(*x.shape, 9), "Meta")
    operator = resolved(registered)
    assert operator(torch.empty(3, device="meta")).shape == (3, 9)


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("names", [["forward"], ["double_backward", "backward"]])
def test_an_operator_without_a_gradient_is_refused_for_that(
    users: Callable[..., Any], names: list[str]
) -> None:
    registered = users(*names)
    ns, op = registered.ns, f"{registered.ns}::{names[0]}"
    with pytest.raises(BackendError):
        resolved(registered, names[0])
    record = verdict({"name": "mine", "op": op})
    assert record["reasons"] == [
        f"usable: op {op}: NotImplementedError: has no gradient; allowed: a kernel for Autograd, "
        f"or {ns}::forward(Tensor x) with {ns}::backward(Tensor grad, Tensor x) beside it"
    ]
