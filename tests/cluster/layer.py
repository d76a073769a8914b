"""Where the environment with the executor plugin is: inside the one that runs the tests."""

import sys
from pathlib import Path

SLURM_PYTHON = Path(sys.prefix) / "slurm" / "bin" / "python"
