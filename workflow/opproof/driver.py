"""Asks NVIDIA's driver whether the GPUs that this process may use work; torch is not needed.

As a program, `python -m opproof.driver`, it prints what is wrong, or nothing.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

# What tells that a job was given GPUs, and what it holds where there is none to use.
VARIABLES = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "CUDA_VISIBLE_DEVICES")
_NONE = ("", "-1", "NoDevFiles")

_VERSION = Path("/proc/driver/nvidia/version")


def is_loaded() -> bool:
    """Say whether this machine has the driver: its kernel tells, whatever the libraries."""
    return _VERSION.exists()


def promised_gpu() -> str | None:
    """Say what tells that this job was given a GPU, None if nothing does."""
    for name in VARIABLES:
        value = os.environ.get(name, "")
        if value not in _NONE:
            return f"{name}={value} gives this job a GPU"
    return None


def fault() -> str | None:
    """Say in the driver's words what keeps a visible GPU from working; None if nothing does."""
    try:
        import pynvml as nvml
    except ImportError:
        return None  # nothing to ask with
    try:
        nvml.nvmlInit()
    except nvml.NVMLError_LibraryNotFound as error:
        # Containers may have the driver without this library.
        return None if is_loaded() else str(error)
    except nvml.NVMLError as error:
        return str(error)
    try:
        for name in _visible():
            try:
                if found := _device_fault(nvml, name):
                    return f"GPU {name}: {found}"
            except nvml.NVMLError as error:
                return f"GPU {name}: {error}"
        return None
    finally:
        nvml.nvmlShutdown()


def _visible() -> Iterator[str]:
    """Yield the GPUs that CUDA_VISIBLE_DEVICES names, as far as CUDA reads it; else the first."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if visible in _NONE:
        yield "0"
        return
    for name in visible.split(","):
        if name.strip() in _NONE:
            return
        yield name.strip()


def _device_fault(nvml: Any, name: str) -> str | None:
    """Return what is wrong with a GPU, None if nothing is. Raises NVMLError."""
    if name.isdecimal():
        count = nvml.nvmlDeviceGetCount()
        if int(name) >= count:
            return f"only {count} there"
        device = nvml.nvmlDeviceGetHandleByIndex(int(name))
    elif name.startswith("MIG-"):
        device = _of_mig(nvml, name)
    else:
        device = _by_uuid(nvml, name)
    if device is None:
        return "there is none of this name"
    # What is lost has a handle, maybe, but does not answer.
    with _unless_untold(nvml):
        nvml.nvmlDeviceGetMemoryInfo(device)
    with _unless_untold(nvml):
        _, _, pending, failed = nvml.nvmlDeviceGetRemappedRows(device)
        if pending or failed:
            return "its memory has errors that wait for a " + ("repair" if failed else "reset")
    return None


def _by_uuid(nvml: Any, name: str) -> Any:
    """Return the GPU whose UUID begins so, as CUDA reads a shortened one; None if there is none."""
    for index in range(nvml.nvmlDeviceGetCount()):
        with suppress(nvml.NVMLError):  # another one, that is lost
            device = nvml.nvmlDeviceGetHandleByIndex(index)
            if nvml.nvmlDeviceGetUUID(device).startswith(name):
                return device
    return None


def _of_mig(nvml: Any, name: str) -> Any:
    """Return the GPU that a MIG device is a part of, by MIG-UUID or MIG-GPU-UUID/INSTANCE/PART."""
    if name.startswith("MIG-GPU-"):
        return _by_uuid(nvml, name.removeprefix("MIG-").partition("/")[0])
    part = nvml.nvmlDeviceGetHandleByUUID(name)
    return nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(part)


def _unless_untold(nvml: Any) -> suppress:
    """Suppress that this GPU, or this driver, does not tell."""
    return suppress(
        nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission, nvml.NVMLError_FunctionNotFound
    )


if __name__ == "__main__":
    print(fault() or "", end="")
