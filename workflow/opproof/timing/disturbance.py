"""What may have disturbed a measurement: a throttled, shared or overloaded device."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

_THROTTLED = "cpu[0-9]*/thermal_throttle/core_throttle_count"
_CPUS = Path("/sys/devices/system/cpu")


class Watch:
    """Looks at the device where `marks` is called; what can't be read is not told."""

    def __init__(self, where: torch.device) -> None:
        self._gpu = _Gpu(where) if where.type == "cuda" else None
        self._throttled = self._throttling()

    def marks(self) -> list[str]:
        """Say in words what has disturbed since the last call; nothing where nothing has."""
        return [*self._marks()]

    def _marks(self) -> Iterator[str]:
        before, self._throttled = self._throttled, self._throttling()
        for cause, amount in self._throttled.items():
            if amount > before.get(cause, amount):
                yield f"throttled: {cause}"
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        if load > cores:
            yield f"load {load:.1f} on {cores} cores"
        if self._gpu and (others := self._gpu.other_processes()):
            yield f"shared: {others} other process{'es' * (others > 1)} on the GPU"

    def _throttling(self) -> dict[str, int]:
        """Return how often, or how long, the device was throttled so far, by cause."""
        return self._gpu.throttling() if self._gpu else {"heat": sum(_counts_of_cores())}


class _Gpu:
    """What the driver tells of a GPU, through NVML."""

    def __init__(self, where: torch.device) -> None:
        import pynvml  # a Python without a GPU may lack it

        self._nvml = pynvml
        # By UUID: NVML counts all GPUs of a machine, torch those that the job may see.
        self._uuid = f"GPU-{torch.cuda.get_device_properties(where).uuid}".encode()
        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()

    def throttling(self) -> dict[str, int]:
        """Return the nanoseconds of lowered clocks so far, by cause."""
        causes = {
            "power": self._nvml.NVML_PERF_POLICY_POWER,
            "heat": self._nvml.NVML_PERF_POLICY_THERMAL,
        }
        found = {}
        for cause, policy in causes.items():
            with suppress(self._nvml.NVMLError):
                handle = self._nvml.nvmlDeviceGetHandleByUUID(self._uuid)
                status = self._nvml.nvmlDeviceGetViolationStatus(handle, policy)
                found[cause] = status.violationTime
        return found

    def other_processes(self) -> int:
        """Return how many processes compute there besides this one."""
        with suppress(self._nvml.NVMLError):
            handle = self._nvml.nvmlDeviceGetHandleByUUID(self._uuid)
            # In a container pids are others than the driver's: this process is one of them.
            return max(0, len(self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)) - 1)
        return 0


def _counts_of_cores() -> Iterator[int]:
    for file in _CPUS.glob(_THROTTLED):
        with suppress(OSError, ValueError):
            yield int(file.read_text())
