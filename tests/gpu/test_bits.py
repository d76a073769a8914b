"""CPU and GPU give the same bits, for every float32."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

NAN = 0x7FC00000
_CHUNK = 2**26


def chunks() -> Iterator[Tensor]:
    """Yield all 2^32 patterns as float32, on the CPU."""
    for start in range(-(2**31), 2**31, _CHUNK):
        patterns = torch.arange(start, start + _CHUNK, dtype=torch.int64).to(torch.int32)
        yield patterns.view(torch.float32)


def bits(values: Tensor) -> Tensor:
    """Return the patterns, one for every NaN: which of them comes out is not promised."""
    return torch.where(values.isnan(), NAN, values.view(torch.int32))


@pytest.mark.parametrize("name", ["forward", "backward"])
def test_every_float32_gives_the_same_bits(gelu: Any, name: str) -> None:
    """Of 4,278,190,082 that are not NaN; and NaN gives NaN."""
    compared = 0
    with ThreadPoolExecutor(1) as ahead:  # the next patterns while these are compared
        produced = chunks()
        following = ahead.submit(next, produced, None)
        while (x := following.result()) is not None:
            following = ahead.submit(next, produced, None)
            there = x.cuda()
            inputs, inputs_there = ((x,), (there,))
            if name == "backward":
                inputs, inputs_there = (torch.ones_like(x), x), (torch.ones_like(there), there)
            operator = getattr(gelu, name)
            expected, found = operator(*inputs), operator(*inputs_there)
            assert torch.equal(found.isnan(), there.isnan())
            differing = bits(found) != bits(expected.cuda())
            assert not differing.any(), f"{x[differing.cpu()][:5]} give other bits"
            compared += int((~there.isnan()).sum())
    assert compared == 4_278_190_082


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["forward", "backward"])
def test_every_16_bit_pattern_gives_the_same_bits(gelu: Any, name: str, dtype: torch.dtype) -> None:
    x = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)
    inputs = (x,) if name == "forward" else (torch.ones_like(x), x)
    expected = getattr(gelu, name)(*inputs)
    found = getattr(gelu, name)(*(each.cuda() for each in inputs)).cpu()
    assert torch.equal(found.isnan(), x.isnan())
    here = ~x.isnan()
    assert torch.equal(found[here].view(torch.int16), expected[here].view(torch.int16))


@pytest.mark.parametrize("shape", [(64, 6, 24, 24), (3, 16, 8, 8), (2, 5, 7, 9), (4, 2, 3, 1030)])
def test_pooled_gives_the_same_bits(gelu: Any, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(shape, generator=generator)
    y = gelu.pooled_forward(x)
    grad = torch.randn(y.shape, generator=generator)
    assert torch.equal(y, gelu.pooled_forward(x.cuda()).cpu())
    expected = gelu.pooled_backward(grad, x)
    assert torch.equal(expected, gelu.pooled_backward(grad.cuda(), x.cuda()).cpu())
