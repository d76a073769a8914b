"""Debian's chromium."""

import shutil
from pathlib import Path

# With the font that has Arial's widths, by which the figures' texts are laid out.
PACKAGES = ("chromium", "fonts-liberation")
_FONTS = Path("/usr/share/fonts")


def path() -> str | None:
    """Return where it is, None if it is not installed."""
    return shutil.which("chromium")


def is_ready() -> bool:
    """Say whether it is installed, and the font."""
    return path() is not None and any(_FONTS.rglob("LiberationSans-Regular.ttf"))
