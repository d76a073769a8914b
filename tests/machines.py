"""Another machine to compile for, and to run on by emulation: aarch64, as Grace and Graviton are.

python -m tests.machines prepare    # `make test` does this first
"""

import shutil
import sys

from tests import needs

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
PACKAGES = ("g++-aarch64-linux-gnu", "qemu-user")
# Set to "required", a machine that can't be compiled for is a failure, not a skip.
REQUIRED = "OPPROOF_AARCH64"


def missing() -> str | None:
    """Say which program is not there, None if none."""
    return next((name for name in (COMPILER, EMULATOR) if not shutil.which(name)), None)


def prepare() -> None:
    """Install Debian's compiler and emulator where they are absent and that may be done."""
    if missing():
        needs.install(*PACKAGES)
    if fault := missing():
        print(f"NO {fault} HERE: AARCH64 IS NOT TESTED", file=sys.stderr)


if __name__ == "__main__":
    prepare()
