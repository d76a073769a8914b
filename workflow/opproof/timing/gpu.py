"""What training makes of a GPU: the kernels that it launches, and how busy they keep it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from opproof.gpu_sampler import GpuSampler

# The profiler keeps each kernel, and needs a second for some 10,000.
PROFILED_STEPS = 64

# Seconds. NVML tells of up to a second before, which must not be of somebody else.
_UNSAMPLED, _SAMPLED = 1.5, 2.0

# What else the profiler sees on a GPU.
_NO_KERNELS = ("Memcpy", "Memset")


@dataclass(frozen=True)
class Kernels:
    """How many kernels a function launches, and the seconds in which at least one of them runs."""

    count: int
    seconds: float


def kernels(function: Callable[[], object]) -> Kernels | None:
    """Return the kernels of one call; it is called before, too.

    None where the profiler sees none, as it does where the driver lets nobody trace.
    """
    function()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        function()
        torch.cuda.synchronize()
    return _kernels(
        [
            (event.time_range.start, event.time_range.end)
            for event in profiler.events() or []
            if event.device_type == DeviceType.CUDA and not event.name.startswith(_NO_KERNELS)
        ]
    )


def utilisation(function: Callable[[], object], where: torch.device) -> float | None:
    """Return the mean utilisation while the function is called on and on, in per cent.

    None where the driver does not tell, as under MIG.
    """
    _repeat(function, _UNSAMPLED)
    with GpuSampler(where) as sampler:
        _repeat(function, _SAMPLED)
    summary = sampler.summary()
    return None if summary is None else summary["utilisation_percent"]


def _kernels(spans: list[tuple[float, float]]) -> Kernels | None:
    """Count spans of time, from and to in microseconds, and add them up; overlaps count once."""
    if not spans:
        return None
    microseconds, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        microseconds += max(0.0, end - max(start, until))
        until = max(until, end)
    return Kernels(len(spans), microseconds / 1e6)


def _repeat(function: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        function()
