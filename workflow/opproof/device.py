"""The device that a job computes on, and the arithmetic that it uses there."""

import os
import socket

import torch

from opproof import driver
from opproof.errors import UserError


def resolve(wanted: str) -> torch.device:
    """Return the device for "auto", "cpu" or "cuda".

    Raises UserError where a GPU was asked for, or given to this job, and torch sees none: a job
    that was to have a GPU never falls back to the CPU.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    promise = "device: cuda is set" if wanted == "cuda" else _promised_gpu()
    if promise is None:
        return torch.device("cpu")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    raise UserError(
        f"no GPU: {promise}, but torch {torch.__version__} (CUDA {torch.version.cuda}) sees none "
        f"on {socket.gethostname()} (CUDA_VISIBLE_DEVICES: {visible}); to train on a CPU, set "
        "device: cpu"
    )


def set_arithmetic(precision: str, device: torch.device) -> None:
    """Make results repeatable, and matrix products and convolutions "fp32" or "tf32".

    A CPU computes with one thread, so that a result does not depend on how many cores there are.
    Raises UserError for tf32 without a GPU.
    """
    if precision == "tf32" and device.type != "cuda":
        raise UserError("precision: tf32 needs a GPU, but this job runs on a CPU; use fp32")
    # Read by cuBLAS when it starts: a fixed workspace is what makes it deterministic.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(1)
    # The older pair of switches: after the newer one, reading the older raises, and operators do.
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def describe(device: torch.device) -> str:
    """Return the name of the hardware."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _promised_gpu() -> str | None:
    """Say what tells that there must be a GPU, None if nothing does."""
    if promise := driver.promised_gpu():
        return promise
    built_for_gpus = torch.version.cuda is not None
    if built_for_gpus and "CUDA_VISIBLE_DEVICES" not in os.environ and _driver_devices():
        return "this machine has a GPU"
    return None


def _driver_devices() -> int:
    """Return how many GPUs the driver knows, 0 without a driver."""
    try:
        import pynvml
    except ImportError:
        return 0
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return 0
    try:
        return pynvml.nvmlDeviceGetCount()
    finally:
        pynvml.nvmlShutdown()
