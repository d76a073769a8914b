"""The textbook's operators, in Python and C++, against closed forms and torch's own checks."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from opproof import operators
from opproof.backends import BACKENDS
from opproof.errors import BackendError
from opproof.operators import Activation
from opproof.settings import Backend
from opproof.verify import accuracy
from tests.unit.test_build import built

BOTH = pytest.mark.parametrize("name", ["python", "cpp"])
CPU = torch.device("cpu")

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(1, 3),
    "sliced": lambda x: x[..., ::2],
    "expanded": lambda x: x[:, :1].expand(2, 3, 4, 5),
    "0-dim": lambda x: x[0, 0, 0, 0],
    "empty": lambda x: x[:0],
}


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory)


@pytest.fixture
def activation(name: str, output: Path) -> Activation:
    return operators.resolve(BACKENDS[name], output)


@pytest.fixture
def registered(output: Path) -> Any:
    operators.resolve(BACKENDS["cpp"], output)
    return torch.ops.opproof_aten_gelu


@BOTH
def test_gradients_differ_from_f_gelu_by_the_textbooks_figure(activation: Activation) -> None:
    """The textbook has 1e-17 to 1e-18, which is rounding."""
    assert accuracy.gradient_mse(activation, F.gelu, CPU) < 5e-17


@BOTH
def test_values_are_those_of_f_gelu(activation: Activation) -> None:
    x = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(activation(x), F.gelu(x), rtol=0, atol=5e-7)
    assert activation(x).dtype == torch.float32


@BOTH
def test_value_and_two_derivatives_are_the_closed_forms(activation: Activation) -> None:
    x = points(1).requires_grad_()
    value = activation(x)
    (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    for derivative, observed in enumerate((value, first, second)):
        close(observed.detach(), closed_form(derivative, x.detach()))


def test_registered_operators_are_the_closed_forms(registered: Any) -> None:
    x, grad, grad_grad = points(3)
    close(registered.forward(x), closed_form(0, x))
    close(registered.backward(grad, x), grad * closed_form(1, x))
    close(registered.double_backward(grad_grad, grad, x), grad_grad * grad * closed_form(2, x))


@BOTH
@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced", "0-dim"])
def test_derivatives_agree_with_finite_differences(
    activation: Activation, check: Callable[..., bool], layout: str
) -> None:
    x = LAYOUTS[layout](images(torch.float64)[:1, :2]).requires_grad_()
    assert check(activation, (x,))


@pytest.mark.parametrize(
    "needs", [(True, True), (True, False), (False, True)], ids=["both", "grad", "x"]
)
def test_backward_is_differentiated_by_what_needs_it(
    registered: Any, needs: tuple[bool, bool]
) -> None:
    inputs = [
        entry.clone().requires_grad_(need) for entry, need in zip(points(2), needs, strict=True)
    ]
    assert torch.autograd.gradcheck(registered.backward, inputs)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("op", "inputs", "differentiable"),
    [("forward", 1, True), ("backward", 2, True), ("double_backward", 3, False)],
    ids=["forward", "backward", "double_backward"],
)
def test_registered_operators_keep_the_rules_of_torch(
    registered: Any,
    op: str,
    inputs: int,
    differentiable: bool,
    dtype: torch.dtype,
    layout: str,
) -> None:
    x = LAYOUTS[layout](images(dtype))
    # A gradient may come in a layout of its own.
    others = [torch.full_like(x, 0.5).contiguous() for _ in range(inputs - 1)]
    arguments = [entry.detach().requires_grad_(differentiable) for entry in (*others, x)]
    torch.library.opcheck(getattr(registered, op).default, tuple(arguments))


@BOTH
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_result_does_not_depend_on_the_layout(activation: Activation, layout: str) -> None:
    x = LAYOUTS[layout](images(torch.float32)).detach().requires_grad_()
    flat = x.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    weights = torch.arange(x.numel(), dtype=x.dtype).reshape(x.shape)
    assert torch.equal(activation(x), activation(flat))
    (gradient,) = torch.autograd.grad((weights * activation(x)).sum(), x)
    (expected,) = torch.autograd.grad((weights * activation(flat)).sum(), flat)
    # Tails of vector loops round otherwise: these are ATen's own.
    torch.testing.assert_close(gradient, expected)


@BOTH
def test_compiles_as_one_graph_and_stays_the_same(activation: Activation) -> None:
    compiled = torch.compile(activation, fullgraph=True, backend="aot_eager")
    x = images(torch.float32)
    expected = accuracy.evaluate(activation, x)
    observed = accuracy.evaluate(compiled, x)
    torch.testing.assert_close(observed, expected, rtol=0, atol=0)


def test_the_python_one_maps_over_a_batch() -> None:
    activation = operators.resolve(BACKENDS["python"], Path())
    x = points(3)
    derivative = torch.func.vmap(torch.func.grad(lambda row: activation(row).sum()))
    torch.testing.assert_close(torch.func.vmap(activation)(x), activation(x))
    close(derivative(x), closed_form(1, x))


@BOTH
def test_an_input_that_changes_before_backward_is_an_error(activation: Activation) -> None:
    leaf = points(1).requires_grad_()
    x = leaf * 1
    y = activation(x).sum()
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


@pytest.mark.parametrize(
    ("op", "message"),
    [
        ("no_such_module:gelu", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("users:no_such_name", "AttributeError: module 'users' has no attribute 'no_such_name'"),
        ("users:number", "not callable"),
        ("needs_more:gelu", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("not_python:gelu", "SyntaxError: "),
        ("raises:gelu", "ZeroDivisionError: division by zero"),
        ("raises_lines:gelu", "ValueError: first"),
        ("leaves:gelu", "SystemExit: 3"),
        ("no_such_library::forward", "AttributeError: "),
        ("opproof_aten_gelu::no_such_operator", "AttributeError: "),
    ],
)
def test_an_op_that_cannot_be_used_is_a_finding_that_names_it(
    users_folder: Path, registered: Any, op: str, message: str
) -> None:
    with pytest.raises(BackendError) as caught:
        operators.resolve(Backend("mine", op), users_folder)
    assert str(caught.value).startswith(f"op {op}: {message}")
    assert "\n" not in str(caught.value)


def test_a_users_module_is_found_in_the_working_folder(users_folder: Path) -> None:
    operator = operators.resolve(Backend("mine", "users:gelu"), users_folder)
    assert operator(torch.zeros(2)).tolist() == [0.0, 0.0]
    assert re.fullmatch(".*/users.py", str(operator.__code__.co_filename))


def test_a_pooled_operator_is_found_where_there_is_one(users_folder: Path) -> None:
    assert operators.resolve_pooled(Backend("mine", "users:gelu"), users_folder) is None
    pooled = Backend("mine", "users:number", pooled="users:gelu")
    operator = operators.resolve_pooled(pooled, users_folder)
    assert operator and operator(torch.zeros(2)).tolist() == [0.0, 0.0]
    with pytest.raises(BackendError, match="op users:absent: "):
        operators.resolve_pooled(Backend("mine", "users:gelu", pooled="users:absent"), users_folder)


@pytest.fixture
def users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a user's modules, which is the working folder."""
    modules = {
        "users": "number = 3\ndef gelu(x): return x",
        "needs_more": "import no_such_module",
        "not_python": "def gelu(x) return x",
        "raises": "1 / 0",
        "raises_lines": "raise ValueError('first\\nsecond')",
        "leaves": "raise SystemExit(3)",
    }
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(f"{text}\n")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the folder is added to it
    return tmp_path


def points(count: int) -> Tensor:
    """Return rows of float64 points where all three forms have digits to show."""
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(count, 17, generator=generator, dtype=torch.float64)


def images(dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64).to(dtype)


def closed_form(derivative: int, x: Tensor) -> Tensor:
    """Return GELU or a derivative, from mpmath's normal distribution."""

    def of(value: float) -> float:
        point = mpmath.mpf(value)
        distribution, density = mpmath.ncdf(point), mpmath.npdf(point)
        forms = (point * distribution, distribution + point * density, density * (2 - point**2))
        return float(forms[derivative])

    with mpmath.workdps(30):
        values = [of(value) for value in x.flatten().tolist()]
    return torch.tensor(values, dtype=torch.float64).reshape(x.shape)


def close(observed: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(observed, expected, rtol=4e-15, atol=1e-15)
