"""What some tests need of the machine: programs that Debian has, and pip has not."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_POLICY = Path("/usr/sbin/policy-rc.d")


def install(*packages: str) -> None:
    """Install Debian's packages where that may be done; whether they are there then is not said."""
    if os.geteuid() != 0 or not Path("/usr/bin/apt-get").exists():
        return
    print(f"installing Debian's packages for tests: {', '.join(packages)}", flush=True)
    with _nothing_started():
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            subprocess.run(
                ["apt-get", "--quiet=2", *command],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                stdout=subprocess.DEVNULL,
                check=False,
            )


def skip_or_fail(message: str, variable: str) -> None:
    """Skip, loudly, what can't be run here; fail if the environment's `variable` is "required"."""
    required = os.environ.get(variable) == "required"
    (pytest.fail if required else pytest.skip)(f"LOUD: {message}")


@contextmanager
def _nothing_started() -> Iterator[None]:
    """Keep packages from starting their services, as invoke-rc.d(8) provides for."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
