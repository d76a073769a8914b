"""Where and with what a job ran. Environment by an allow-list: what is not on it may be secret."""

import os
import platform
import socket
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from opproof import __version__, paths

_PACKAGES = ("torch", "torchvision", "numpy", "snakemake")
_ENVIRONMENT = ("SLURM_JOB_ID", "SLURM_JOB_PARTITION", "SLURM_JOB_NODELIST", "CUDA_VISIBLE_DEVICES")


def of_job() -> dict[str, Any]:
    """Return host, processor, time (UTC, ISO 8601) and the allowed environment of this process."""
    return {
        "host": socket.gethostname(),
        "machine": platform.machine(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
    }


def of_run() -> dict[str, Any]:
    """Return what the whole pipeline ran with: versions, and the commit of its code."""
    return {
        "opproof": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "git": _git_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Return the commit of the project's repository, with "-dirty" if it has changes; else None."""
    if not (paths.TREE / ".git").exists():  # installed, maybe inside a repository of something else
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(
            command, cwd=paths.TREE, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return result.stdout.strip() or None
