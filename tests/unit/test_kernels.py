"""The operators of the built library on the CPU: layouts, dtypes, instruction sets, refusals."""

import dataclasses
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from opproof import backends, build
from opproof.settings import Build
from tests.unit.test_activations import DIGESTS, STRIDE

# With the errors that results may have, relative and absolute: half's subnormals are 6e-8 apart,
# and autograd's second derivative has sums of what is larger than itself.
DTYPES = {
    "float64": (torch.float64, 1e-13, 1e-14),
    "float32": (torch.float32, 5e-7, 1e-14),
    "float16": (torch.float16, 5e-4, 3e-8),
    "bfloat16": (torch.bfloat16, 4e-3, 1e-14),
}
WIDE = (torch.float64, torch.float32)
NARROW = (torch.float16, torch.bfloat16)
LEVELS = {"baseline": 0, "AVX2": 1, "AVX-512": 2}

# As DIGESTS, of all 2^32 patterns.
ALL_DIGESTS = {
    "value": "38c199ff48074e282eecfb07c74ef2a8796f92d38a9f3628de766204cc32ae55",
    "derivative": "e155202e362046771f483cbf366c7a8c5c93f5cfa7ed832d51501f7b46e658c1",
    "second_derivative": "a6e5ecf39d9160bafa2cc130dbbabba91d260f8567cf637f495650b7b6c5777a",
}


on_request = pytest.mark.skipif(
    "OPPROOF_SLOW" not in os.environ, reason="slow: runs where OPPROOF_SLOW is set"
)


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, under a name of its own: one process cannot load two that register the same."""
    shipped = backends.LIBRARIES["gelu"]
    sources = tuple(source for source in shipped.sources if source.endswith(".cpp"))
    entry = dataclasses.replace(shipped, name="gelu_alone", sources=sources)
    output = tmp_path_factory.mktemp("results")
    build.build(entry, Build(cuda="off", cuda_arch_list="9.0"), output)
    return output / "build" / "gelu_alone" / "gelu_alone.so"


@pytest.fixture(scope="session")
def library(path: Path) -> SimpleNamespace:
    torch.ops.load_library(path)
    return torch.ops.opproof_gelu_alone


@pytest.fixture
def restored(library: SimpleNamespace, arithmetic: None) -> Iterator[None]:
    yield
    library.use_isa(-1)


def take(library: SimpleNamespace, level: str) -> None:
    if library.use_isa(LEVELS[level]) != LEVELS[level]:
        pytest.skip(f"this machine has no {level}")


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


def same_bits(left: Tensor, right: Tensor) -> bool:
    """Whether all elements are equal, with the signs of zeros, and NaN where the other has NaN."""
    both_nan = left.isnan() & right.isnan()
    same = (left == right) & (left.signbit() == right.signbit())
    return left.dtype == right.dtype and left.shape == right.shape and bool((same | both_nan).all())


# ---- Every element, whatever the layout


def gelu(x: Tensor) -> Tensor:
    """The truth, for doubles, with all the derivatives that autograd finds."""
    return 0.5 * x * torch.special.erfc(-x * 0.5**0.5)


def gradients(
    function: Callable[[Tensor], Tensor], grad_grad: Tensor, grad: Tensor, x: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient grad f'(x), and with grad_grad for it, those of grad and x."""
    x, grad = (tensor.detach().double().requires_grad_() for tensor in (x, grad))
    (first,) = torch.autograd.grad(function(x), x, grad, create_graph=True)
    above, below = torch.autograd.grad(first, (grad, x), grad_grad.double())
    return first.detach(), above, below


LAYOUTS: dict[str, Callable[[torch.dtype], Tensor]] = {
    "contiguous": lambda dtype: normal(5, 6, 7, 9, dtype=dtype),
    "transposed": lambda dtype: normal(64, 67, dtype=dtype).t(),
    "channels last": lambda dtype: normal(3, 5, 8, 7, dtype=dtype).to(
        memory_format=torch.channels_last
    ),
    "channels last, half": lambda dtype: normal(3, 5, 8, 7, dtype=dtype).to(
        memory_format=torch.channels_last
    )[:, :, ::2],
    "gaps": lambda dtype: normal(20, 30, dtype=dtype)[::2, ::3],
    "columns": lambda dtype: normal(40, 64, dtype=dtype)[:, 1:],
    "expanded": lambda dtype: normal(7, 1, dtype=dtype).expand(7, 5),
    "overlapping": lambda dtype: normal(40, dtype=dtype).unfold(0, 5, 1),
    "scalar": lambda dtype: normal(dtype=dtype),
    "one": lambda dtype: normal(1, dtype=dtype),
    "empty": lambda dtype: normal(0, 3, dtype=dtype),
    "empty, transposed": lambda dtype: normal(4, 0, 3, dtype=dtype).transpose(0, 2),
    "dimensions of one": lambda dtype: normal(5, 1, 7, 1, dtype=dtype).permute(3, 2, 1, 0),
    "unaligned": lambda dtype: normal(1025, dtype=dtype)[1:],
    "threads": lambda dtype: normal(2, 40_001, dtype=dtype),
}
# How the gradient lies, for x's shape.
GRADS: dict[str, Callable[[Tensor], Tensor]] = {
    "as x": lambda x: torch.empty_like(x).copy_(normal(*x.shape, seed=1)),
    "contiguous": lambda x: normal(*x.shape, dtype=x.dtype, seed=1),
    "reversed": lambda x: normal(*reversed(x.shape), dtype=x.dtype, seed=1).permute(
        tuple(reversed(range(x.dim())))
    ),
    "expanded": lambda x: normal(dtype=x.dtype, seed=1).expand(x.shape),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_results_are_right_in_every_layout_and_lie_as_torch_would_have_them(
    library: SimpleNamespace, layout: str, dtype: str
) -> None:
    torch_dtype, rtol, atol = DTYPES[dtype]
    x = LAYOUTS[layout](torch_dtype)
    for make in GRADS.values():
        grad, grad_grad = make(x), normal(*x.shape, dtype=torch_dtype, seed=2)
        before = [tensor.clone() for tensor in (x, grad, grad_grad)]
        first, above, below = gradients(gelu, grad_grad, grad, x)
        for result, truth in {
            library.forward(x): gelu(x.double()),
            library.backward(grad, x): first,
            library.backward(grad_grad, x): above,
            library.double_backward(grad_grad, grad, x): below,
        }.items():
            assert result.dtype == torch_dtype
            assert result.stride() == torch.empty_like(x).stride()
            torch.testing.assert_close(result.double(), truth, rtol=rtol, atol=atol)
        for tensor, copy in zip((x, grad, grad_grad), before, strict=True):
            assert same_bits(tensor, copy)


@pytest.mark.parametrize("dtype", [*WIDE, *NARROW], ids=str)
def test_every_length_and_alignment_gives_the_same_bits_and_writes_nothing_else(
    library: SimpleNamespace, dtype: torch.dtype
) -> None:
    x, grad = normal(300, dtype=dtype), normal(300, dtype=dtype, seed=1)
    forward, backward = library.forward(x), library.backward(grad, x)
    double_backward = library.double_backward(x, grad, x)
    for length in [*range(1, 68), 127, 128, 191, 193]:
        start = length % 17
        window = slice(start, start + length)
        out = torch.full((300,), 7.0, dtype=dtype)
        library.forward_out(x[window], out[window])
        assert same_bits(out[window], forward[window])
        library.backward_out(grad[window], x[window], out[window])
        assert same_bits(out[window], backward[window])
        assert (out[:start] == 7).all() and (out[start + length :] == 7).all()
        assert same_bits(library.forward(x[window]), forward[window])
        third = library.double_backward(x[window], grad[window], x[window])
        assert same_bits(third, double_backward[window])


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_16_bit_results_are_those_of_float32_rounded(
    library: SimpleNamespace, dtype: torch.dtype
) -> None:
    x = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)
    grad, grad_grad = normal(2**16, dtype=dtype, seed=1), normal(2**16, dtype=dtype, seed=2)
    planes, above = x.view(1, 256, 256), normal(1, 128, 128, dtype=dtype, seed=3)
    for operator, inputs in {
        library.forward: (x,),
        library.backward: (grad, x),
        library.double_backward: (grad_grad, grad, x),
        library.pooled_forward: (planes,),
        library.pooled_backward: (above, planes),
    }.items():
        expected = operator(*(tensor.float() for tensor in inputs)).to(dtype)
        assert same_bits(operator(*inputs), expected), operator
    for got, expected in zip(
        library.pooled_double_backward(grad.view_as(planes), above, planes),
        library.pooled_double_backward(grad.view_as(planes).float(), above.float(), planes.float()),
        strict=True,
    ):
        assert same_bits(got, expected.to(dtype))


# ---- Activation, pool, activation


def composed(x: Tensor) -> Tensor:
    return gelu(sum(corners(gelu(x))) / 4)


PLANES: dict[str, Callable[[torch.dtype], Tensor]] = {
    **{
        "x".join(map(str, shape)): lambda dtype, shape=shape: normal(*shape, dtype=dtype)
        for shape in [
            (2, 2),
            (3, 5),
            (4, 7, 8),
            (2, 3, 9, 6),
            (2, 3, 2, 7, 7),
            (0, 3, 4, 4),
            (2, 0, 5, 4),
            (100, 3, 2, 2),
            (8, 6, 24, 24),
            (3, 5, 1030),
            (2, 4, 2062),
            (5, 2501),
            (2501, 3),
        ]
    },
    "channels last": lambda dtype: normal(3, 5, 8, 7, dtype=dtype).to(
        memory_format=torch.channels_last
    ),
    "transposed": lambda dtype: normal(3, 7, 10, dtype=dtype).transpose(1, 2),
    "gaps": lambda dtype: normal(6, 20, 30, dtype=dtype)[::2, ::2, 1::3],
    "expanded": lambda dtype: normal(1, 6, 1, dtype=dtype).expand(4, 6, 8),
    "unaligned": lambda dtype: normal(1 + 12 * 12, dtype=dtype)[1:].view(12, 12),
}


def gradient_of_pool(x: Tensor) -> Tensor:
    return normal(*x.shape[:-2], x.shape[-2] // 2, x.shape[-1] // 2, dtype=x.dtype, seed=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", PLANES)
def test_pooled_is_the_composition_of_the_three(
    library: SimpleNamespace, layout: str, dtype: str
) -> None:
    torch_dtype, rtol, _ = DTYPES[dtype]
    x = PLANES[layout](torch_dtype)
    grad, grad_grad = gradient_of_pool(x), normal(*x.shape, dtype=torch_dtype, seed=2)
    before = [tensor.clone() for tensor in (x, grad, grad_grad)]
    y, dx = library.pooled_forward(x), library.pooled_backward(grad, x)
    double = library.pooled_double_backward(grad_grad, grad, x)
    for tensor, copy in zip((x, grad, grad_grad), before, strict=True):
        assert same_bits(tensor, copy)
    assert all(result.is_contiguous() for result in (y, dx, *double))
    if torch_dtype in WIDE:
        assert same_bits(y, pooled_in_order(library, x))
        assert same_bits(dx, pooled_backward_in_order(library, grad, x))
    for other in (grad.mT.contiguous().mT, torch.stack([grad, grad], -1)[..., 0]):
        assert same_bits(library.pooled_backward(other, x), dx)
    truths = (composed(x.double()), *gradients(composed, grad_grad, grad, x))
    for result, truth in zip((y, dx, *double), truths, strict=True):
        assert result.dtype == torch_dtype
        # Sums of what is of either sign.
        torch.testing.assert_close(result.double(), truth, rtol=4 * rtol, atol=4 * rtol)


def corners(x: Tensor) -> list[Tensor]:
    """The four of every window, as four tensors."""
    height, width = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
    return [x[..., row:height:2, column:width:2] for row in (0, 1) for column in (0, 1)]


def means(library: SimpleNamespace, x: Tensor) -> Tensor:
    a, b, c, d = (library.forward(corner) for corner in corners(x))
    return 0.25 * ((a + b) + (c + d))


def pooled_in_order(library: SimpleNamespace, x: Tensor) -> Tensor:
    """The promised order of summation, to the bit."""
    return library.forward(means(library, x))


def pooled_backward_in_order(library: SimpleNamespace, grad: Tensor, x: Tensor) -> Tensor:
    factor = library.backward(0.25 * grad, means(library, x))
    result = torch.zeros(x.shape, dtype=x.dtype)
    for corner, at in zip(corners(x), corners(result), strict=True):
        at.copy_(library.backward(factor, corner))
    return result


# ---- The same bits on every instruction set, with any number of threads


@pytest.mark.parametrize("level", LEVELS)
def test_every_float_bit_is_as_it_was_on_every_instruction_set(
    library: SimpleNamespace, restored: None, level: str
) -> None:
    take(library, level)
    x = floats(0, 2**32, STRIDE)
    for function, results in elementwise(library, x).items():
        assert hashlib.sha256(results).hexdigest() == DIGESTS[function]


@pytest.mark.slow
@on_request
def test_every_bit_of_every_float_is_as_it_was(library: SimpleNamespace) -> None:
    digests = {function: hashlib.sha256() for function in ALL_DIGESTS}
    step = 2**26
    for start in range(0, 2**32, step):
        x = floats(start, start + step)
        results = elementwise(library, x)
        with ThreadPoolExecutor() as threads:
            for function, digest in digests.items():
                threads.submit(digest.update, results[function])
    assert {function: digest.hexdigest() for function, digest in digests.items()} == ALL_DIGESTS


def floats(begin: int, end: int, step: int = 1) -> Tensor:
    patterns = np.arange(begin, end, step, dtype=np.int64).astype(np.uint32)
    return torch.from_numpy(patterns.view(np.float32))


def elementwise(library: SimpleNamespace, x: Tensor) -> dict[str, np.ndarray]:
    one = torch.ones_like(x)
    results = {
        "value": library.forward(x),
        "derivative": library.backward(one, x),
        "second_derivative": library.double_backward(one, one, x),
    }
    # nan_to_num_ would make NaN another number, and keeps infinities only if told to.
    return {
        name: result.masked_fill_(result.isnan(), NAN).numpy() for name, result in results.items()
    }


NAN = torch.tensor(0x7FC00000, dtype=torch.int32).view(torch.float32)


@pytest.mark.parametrize("dtype", [*WIDE, *NARROW], ids=str)
def test_instruction_sets_and_threads_change_no_bit(
    library: SimpleNamespace, restored: None, dtype: torch.dtype
) -> None:
    x, grad = normal(300_007, dtype=dtype), normal(300_007, dtype=dtype, seed=1)
    planes = x[: 60 * 68 * 73].view(60, 68, 73)
    above, beside = gradient_of_pool(planes), grad[: planes.numel()].view_as(planes)
    results: dict[tuple[int, int], list[Tensor]] = {}
    for level in LEVELS.values():
        level = library.use_isa(level)
        for threads in (1, 2, 7):
            torch.set_num_threads(threads)
            results[level, threads] = [
                library.forward(x),
                library.backward(grad, x),
                library.double_backward(x, grad, x),
                library.pooled_forward(planes),
                library.pooled_backward(above, planes),
                *library.pooled_double_backward(beside, above, planes),
            ]
    first = results[0, 1]
    for which, others in results.items():
        for number, (left, right) in enumerate(zip(first, others, strict=True)):
            assert same_bits(left, right), (which, number)


# ---- What is refused


def with_integers(shape: tuple[int, ...]) -> Tensor:
    return torch.ones(shape, dtype=torch.int64)


DTYPE = "dtype must be float32, float64, float16 or bfloat16"
POOLABLE = "x must be of shape [..., height, width], both at least 2"
LAYOUT = "x and out must be dense and of one layout"
X = normal(4, 6)
REFUSED: dict[str, tuple[str, tuple[Tensor, ...], str]] = {
    "integers": ("forward", (with_integers((3,)),), DTYPE),
    "no integers": ("forward", (with_integers((0,)),), DTYPE),
    "complex": ("forward", (X.to(torch.complex64),), DTYPE),
    "integers, backward": ("backward", (with_integers((3,)), with_integers((3,))), DTYPE),
    "grad's shape": ("backward", (normal(6, 4), X), "grad must be of x's shape"),
    "grad to be broadcast": ("backward", (normal(6), X), "grad must be of x's shape"),
    "grad's dtype": ("backward", (X.double(), X), "grad must be of x's dtype"),
    "grad_grad's shape": ("double_backward", (normal(4), X, X), "grad_grad must be of x's shape"),
    "grad_grad's dtype": ("double_backward", (X.half(), X, X), "grad_grad must be of x's dtype"),
    "second grad's shape": ("double_backward", (X, normal(4), X), "grad must be of x's shape"),
    "out's shape": ("forward_out", (X, normal(6, 4)), "out must be of x's shape"),
    "out's dtype": ("forward_out", (X, X.double()), "out must be of x's dtype"),
    "out's layout": ("forward_out", (X, normal(6, 4).t()), LAYOUT),
    "x's layout": ("forward_out", (X[:, ::2], X[:, ::2].clone()), LAYOUT),
    "both with gaps": ("forward_out", (X[:, ::2], normal(4, 6)[:, ::2]), LAYOUT),
    "out's layout, backward": ("backward_out", (X, X, normal(6, 4).t()), LAYOUT),
    "grad's shape, out": ("backward_out", (normal(4), X, X.clone()), "grad must be of x's shape"),
    "integers, pooled": ("pooled_forward", (with_integers((2, 2)),), DTYPE),
    "no integers, pooled": ("pooled_forward", (with_integers((0, 2, 2)),), DTYPE),
    "a row": ("pooled_forward", (normal(4),), POOLABLE),
    "a scalar": ("pooled_forward", (normal(),), POOLABLE),
    "too low": ("pooled_forward", (normal(3, 1, 4),), POOLABLE),
    "too narrow": ("pooled_backward", (normal(3, 2, 1), normal(3, 4, 1)), POOLABLE),
    "pooled grad's shape": (
        "pooled_backward",
        (X, X),
        "grad must be of shape [..., height / 2, width / 2]",
    ),
    "pooled grad's dtype": (
        "pooled_backward",
        (normal(2, 3).double(), X),
        "grad must be of x's dtype",
    ),
    "pooled grad_grad's shape": (
        "pooled_double_backward",
        (normal(2, 3), normal(2, 3), X),
        "grad_grad must be of x's shape",
    ),
}


@pytest.mark.parametrize(("operator", "inputs", "message"), REFUSED.values(), ids=REFUSED)
def test_what_it_cannot_compute_is_refused_with_the_reason(
    library: SimpleNamespace, operator: str, inputs: tuple[Tensor, ...], message: str
) -> None:
    with pytest.raises(RuntimeError, match=re.escape(message)):
        getattr(library, operator)(*inputs)


# ---- More elements than 2^31


def available() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@on_request
@pytest.mark.skipif(available() < 16e9, reason="takes 13 GB of memory")
def test_more_elements_than_2_to_the_31(library: SimpleNamespace) -> None:
    x = torch.zeros(2, 2**15 + 2, 2**15, dtype=torch.float16)
    ends = [slice(0, 99), slice(2**31 - 50, 2**31 + 50), slice(x.numel() - 99, x.numel())]
    for end in ends:
        x.view(-1)[end] = normal(end.stop - end.start, dtype=x.dtype)
    for operator in (library.forward, lambda x: library.backward(x, x)):
        result = operator(x).view(-1)
        expected = [operator(x.view(-1)[end]) for end in ends]
        for end, part in zip(ends, expected, strict=True):
            assert same_bits(result[end], part)
        # The others are of zeros.
        assert result.count_nonzero() == sum(part.count_nonzero() for part in expected)
    grad = torch.ones(2, 2**14 + 1, 2**14, dtype=x.dtype)
    for result, part in (
        (library.pooled_forward(x), library.pooled_forward(x[1, -4:])),
        (library.pooled_backward(grad, x), library.pooled_backward(grad[1, -2:], x[1, -4:])),
    ):
        assert same_bits(result[1, -part.shape[0] :], part)


# ---- The file


def test_it_needs_of_torch_the_stable_c_interface_alone(path: Path) -> None:
    """So one file serves every torch from 2.11 on, whatever its C++ interface."""
    command = ["nm", "-D", "--undefined-only", path]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    needed = {line.split()[-1] for line in lines}
    torchs = {name for name in needed if re.match(r"(aoti_)?torch_\w+$", name)}
    system = {name for name in needed if re.search(r"@(GLIBC|GLIBCXX|CXXABI|GCC)_", name)}
    standard = {name for name in needed if re.match(r"_ZN?[KO]?R?K?St", name)}
    weak = {line.split()[-1] for line in lines if line.split()[0] == "w"}
    assert "aoti_torch_library_impl" in torchs or "torch_library_impl" in torchs
    assert needed - torchs - system - standard - weak == set()


def vector_instructions(path: Path, names: tuple[str, ...]) -> dict[str, set[str]]:
    """Return which of "v" (AVX's prefix), "%ymm" and "%zmm" a library's instructions have.

    By the first of `names` that a function's own has in it, "baseline" for the others. Skips the
    test where the library is not for x86-64.
    """
    command = ["objdump", "-d", "--no-show-raw-insn", path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if "x86-64" not in done.stdout:
        pytest.skip("not for x86-64")
    found: dict[str, set[str]] = {name: set() for name in (*names, "baseline")}
    where = "baseline"
    for line in done.stdout.splitlines():
        if line.endswith(">:"):
            where = next((name for name in names if name in line), "baseline")
        elif match := re.match(r"\s+[0-9a-f]+:\t(v)?\w+ ?(?:.*(%zmm|%ymm))?", line):
            found[where] |= {part for part in match.groups() if part}
    return found


@pytest.mark.skipif(not shutil.which("objdump"), reason="no objdump")
def test_instructions_beyond_the_baseline_are_in_their_loops_alone(path: Path) -> None:
    found = vector_instructions(path, ("run_avx512", "run_avx2"))
    assert found == {
        "run_avx512": {"v", "%zmm", "%ymm"},
        "run_avx2": {"v", "%ymm"},
        "baseline": set(),
    }


OTHER = os.environ.get("OPPROOF_OTHER_PYTHON")

_PRINT_DIGESTS = """
import hashlib, sys
import torch

torch.ops.load_library(sys.argv[1])
x = torch.arange(0, 2**32, 9973).to(torch.int32).view(torch.float32)
operators = torch.ops.opproof_gelu_alone
pooled = operators.pooled_forward(x.expand(2, -1))
for y in (operators.forward(x), operators.backward(x, x.flip(0)), pooled):
    print(hashlib.sha256(y.numpy().tobytes()).hexdigest())
"""


@pytest.mark.skipif(not OTHER, reason="OPPROOF_OTHER_PYTHON names no Python with another torch")
def test_another_torch_loads_the_same_file_and_computes_the_same_bits(path: Path) -> None:
    said = [
        subprocess.run(
            [python, "-c", _PRINT_DIGESTS, path], capture_output=True, text=True, check=True
        )
        for python in (sys.executable, OTHER)
    ]
    assert said[0].stdout == said[1].stdout != ""
