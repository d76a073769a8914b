"""What all tests share: real MNIST."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

# What is started with & ignores Ctrl-C, and so would all that it starts: runs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The four official files, kept in the repository's resources/ from one session to the next."""
    folder = REPOSITORY / "resources" / "mnist"
    subprocess.run([sys.executable, "-m", "opproof", "data"], cwd=REPOSITORY, check=True)
    return folder
