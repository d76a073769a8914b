"""Debian's chromium."""

import shutil

PACKAGES = ("chromium",)


def path() -> str | None:
    """Return where it is, None if it is not installed."""
    return shutil.which("chromium")
