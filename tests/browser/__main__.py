"""What the tests in a real browser need.

python -m tests.browser prepare    # `make test` does this first
"""

import sys

from tests import needs

from . import chromium


def prepare() -> None:
    """Install Debian's chromium where it is absent and that may be done."""
    if not chromium.path():
        needs.install(*chromium.PACKAGES)
    if not chromium.path():
        print("NO CHROMIUM HERE: THE REPORT IS NOT TESTED IN A BROWSER", file=sys.stderr)


if __name__ == "__main__":
    sys.exit({"prepare": prepare}[sys.argv[1]]())
