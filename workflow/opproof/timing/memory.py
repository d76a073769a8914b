"""How much memory there is, so that what does not fit is skipped and not killed."""

import re
from pathlib import Path

import torch

_MEMINFO = Path("/proc/meminfo")
_OWN_CGROUP = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


def available(where: torch.device) -> int:
    """Return the bytes that this process may still take, on the GPU or on the machine.

    On the machine: what the kernel says is available, and what the job's cgroups (version 2) leave
    of their limits.
    """
    if where.type == "cuda":
        return torch.cuda.mem_get_info(where)[0]
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE)
    machine = int(found[1]) * 1024 if found else 0
    return min([machine, *_left_by_cgroups()])


def _left_by_cgroups() -> list[int]:
    own = re.search(r"^0::/(.*)$", _OWN_CGROUP.read_text(), re.MULTILINE)
    if own is None:
        return []
    folder = _CGROUPS / own[1]
    folders = [folder, *folder.parents]
    return [left for group in folders if (left := _left(group)) is not None]


def _left(group: Path) -> int | None:
    """Return what a cgroup has left, counting file cache as free; None if it sets no limit."""
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.M)
    except OSError:
        return None
    return None if limit == "max" else int(limit) - used + (int(cached[1]) if cached else 0)
