"""The CUDA kernels: layouts, alignment, streams, graphs, and what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

DTYPES = {
    torch.float32: 1e-6,
    torch.float64: 1e-14,
    torch.float16: 2e-3,
    torch.bfloat16: 2e-2,
}

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(1, 3),
    "with gaps": lambda x: x[..., ::2],
    "expanded": lambda x: x[:, :1].expand(4, 6, 10, 14),
    "not aligned": lambda x: x.flatten()[1:],
    "scalar": lambda x: x[0, 0, 0, 0],
    "empty": lambda x: x[:0],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_layout_and_dtype(gelu: Any, dtype: torch.dtype, layout: str) -> None:
    x = LAYOUTS[layout](images(dtype))
    grad = torch.randn_like(x)
    before = x.clone()
    y, gradient = gelu.forward(x), gelu.backward(grad, x)
    leaf = x.double().requires_grad_()
    truth = 0.5 * leaf * torch.special.erfc(-leaf * 0.5**0.5)
    (slope,) = torch.autograd.grad(truth, leaf, grad.double())
    tolerance = {"atol": DTYPES[dtype], "rtol": DTYPES[dtype], "check_dtype": False}
    torch.testing.assert_close(y, truth.detach(), **tolerance)
    torch.testing.assert_close(gradient, slope, **tolerance)
    assert y.stride() == gradient.stride() == torch.empty_like(x).stride()
    assert torch.equal(x, before)


@pytest.mark.parametrize("shape", [(4, 6, 24, 24), (2, 5, 7), (3, 2, 9, 4), (0, 6, 8, 8)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_pooled(gelu: Any, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = 2 * torch.randn(shape, device="cuda", dtype=dtype)
    y = gelu.pooled_forward(x)
    grad = torch.randn_like(y)
    leaf = x.double().requires_grad_()
    truth = F.gelu(F.avg_pool2d(F.gelu(leaf), 2))
    (slope,) = torch.autograd.grad(truth, leaf, grad.double())
    tolerance = {"atol": 2 * DTYPES[dtype], "rtol": 2 * DTYPES[dtype], "check_dtype": False}
    torch.testing.assert_close(y, truth.detach(), **tolerance)
    torch.testing.assert_close(gelu.pooled_backward(grad, x), slope, **tolerance)


@pytest.mark.parametrize("name", ["forward", "pooled_forward"])
def test_gradients_of_both_orders(gelu: Any, name: str) -> None:
    x = torch.randn(2, 3, 4, 6, device="cuda", dtype=torch.float64, requires_grad=True)
    operator = getattr(gelu, name).default
    assert torch.autograd.gradcheck(operator, (x,))
    assert torch.autograd.gradgradcheck(operator, (x,))


@pytest.mark.parametrize("name", ["forward", "pooled_forward"])
def test_opcheck(gelu: Any, name: str) -> None:
    x = torch.randn(2, 3, 4, 6, device="cuda", requires_grad=True)
    torch.library.opcheck(getattr(gelu, name).default, (x,))


def test_more_than_two_to_the_31_elements(gelu: Any) -> None:
    """In float16, and looked at where an index of 32 bits would have gone wrong."""
    count = 2**31 + 1000
    x = torch.full((count,), 1.0, device="cuda", dtype=torch.float16)
    x[-5:] = 2.0
    y = gelu.forward(x)
    assert y[0].item() == y[2**31 - 1].item() == y[-6].item()
    torch.testing.assert_close(
        y[-5:].float(), F.gelu(torch.full((5,), 2.0, device="cuda")), atol=2e-3, rtol=0
    )
    del x, y
    planes = torch.ones(2**15 + 3, 1, 256, 256, device="cuda", dtype=torch.float16)
    assert planes.numel() > 2**31
    pooled = gelu.pooled_forward(planes)
    assert (pooled == pooled[0, 0, 0, 0]).all()


def test_works_on_the_current_stream(gelu: Any) -> None:
    x = torch.randn(1_000_000, device="cuda")
    expected = gelu.forward(2 * x)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        doubled = 2 * x  # not there yet for one who does not wait for this stream
        y = gelu.forward(doubled)
    stream.synchronize()
    assert torch.equal(y, expected)


def test_is_captured_in_a_graph(gelu: Any) -> None:
    x = torch.randn(4, 6, 24, 24, device="cuda")
    gelu.pooled_forward(gelu.forward(x))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = gelu.pooled_forward(gelu.forward(x))
    x.copy_(torch.randn_like(x))
    graph.replay()
    assert torch.equal(y, gelu.pooled_forward(gelu.forward(x)))


@pytest.mark.parametrize("name", ["forward", "pooled_forward"])
def test_compiles_without_a_break(gelu: Any, name: str) -> None:
    operator = getattr(gelu, name).default
    compiled = torch.compile(lambda x: operator(x + 1).sum(), fullgraph=True)
    x = torch.randn(4, 6, 24, 24, device="cuda", requires_grad=True)
    (found,) = torch.autograd.grad(compiled(x), x)
    (expected,) = torch.autograd.grad(operator(x + 1).sum(), x)
    torch.testing.assert_close(found, expected)


def test_autocast_leaves_the_dtype(gelu: Any) -> None:
    x = torch.randn(8, 8, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        assert gelu.forward(x @ x).dtype == torch.bfloat16
        assert gelu.forward(x).dtype == torch.float32


def test_what_is_wrong_is_refused_in_words(gelu: Any) -> None:
    x = torch.randn(4, 6, device="cuda")
    for arguments, fault in (
        ((x.cpu(), x), "device"),
        ((x[:2], x), "shape"),
        ((x.half(), x), "dtype"),
        ((x.int(), x.int()), "float32, float64, float16 or bfloat16"),
    ):
        with pytest.raises(RuntimeError, match=fault):
            gelu.backward(*arguments)


def images(dtype: torch.dtype) -> Tensor:
    generator = torch.Generator("cuda").manual_seed(0)
    return (3 * torch.randn(4, 6, 10, 14, generator=generator, device="cuda")).to(dtype)
