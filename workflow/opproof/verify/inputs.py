"""The inputs that a model may pass: sizes, layouts, values far out; the same in every process."""

from collections.abc import Iterator

import torch
from torch import Tensor


def sizes(dtype: torch.dtype, device: torch.device) -> Iterator[Tensor]:
    """Yield vectors of 1 to 33 values: full and broken vector registers."""
    generator = torch.Generator().manual_seed(1)
    for size in range(1, 34):
        yield _normal((size,), generator, dtype, device)


def far(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return values beyond the domain that figures are given for."""
    return torch.tensor(
        [-1e4, -100.0, -20.0, -12.5, 12.5, 20.0, 100.0, 1e4], dtype=dtype, device=device
    )


def layouts(dtype: torch.dtype, device: torch.device) -> Iterator[Tensor]:
    """Yield dense, permuted, with gaps, overlapping, scalar and empty."""
    images = _normal((2, 3, 4, 5), torch.Generator().manual_seed(2), dtype, device)
    for view in (
        images,
        images.to(memory_format=torch.channels_last),
        images.transpose(1, 3),
        images[..., ::2],
        images[:, :1].expand(2, 3, 4, 5),
        images[0, 0, 0, 0],
        images[:0],
    ):
        yield view.detach()


def planes(dtype: torch.dtype, device: torch.device) -> Iterator[Tensor]:
    """Yield [..., H, W] to pool: even and odd sizes, 3-D and 4-D, dense or not, without images."""
    images = _normal((2, 3, 6, 8), torch.Generator().manual_seed(3), dtype, device)
    for view in (
        images,
        images.to(memory_format=torch.channels_last),
        images.transpose(2, 3),
        images.transpose(0, 1),
        images[..., 1:],
        images[..., :5, ::2],
        images[:, :1].expand(2, 3, 6, 8),
        images[0],
        images[0, :, :3, :7].contiguous(),
        images[0].transpose(0, 2),
        images[..., :2, :2],
        images[:0],
        _normal((2, 1, 7, 67), torch.Generator().manual_seed(4), dtype, device),
    ):
        yield view.detach()


def gradient(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return a random gradient in [-1, 1], of the dtype and device of `like`."""
    # In float64 whatever the dtype, so that all dtypes are given the same.
    values = torch.rand(like.shape, generator=generator, dtype=torch.float64)
    return (2 * values - 1).to(like)


def _normal(
    shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: torch.device
) -> Tensor:
    wide = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (3 * wide).to(device, dtype)
