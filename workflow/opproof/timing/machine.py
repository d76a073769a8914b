"""What figures are of: the hardware, and what torch makes of it."""

import platform
import re
from pathlib import Path

import torch

from opproof import device


def hardware(where: torch.device) -> str:
    """Name the GPU, or the processor and the instructions that torch uses there."""
    if where.type == "cuda":
        return device.describe(where)
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    model = found[1] if found else platform.machine()
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}"
