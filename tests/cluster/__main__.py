"""What the tests on a real SLURM need, and such a SLURM for a person.

python -m tests.cluster prepare    # `make test` does this first
python -m tests.cluster shell      # `make cluster`
"""

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

from tests import needs

from .layer import SLURM_PYTHON
from .slurm_cluster import PACKAGES, Cluster, missing

REPOSITORY = Path(__file__).resolve().parents[2]


def prepare() -> None:
    """Make the plugin's environment, and install Debian's packages where that may be done."""
    _make_environment()
    if missing():
        needs.install(*PACKAGES)
    fault = missing()
    if fault:
        print(f"NO SLURM CAN BE STARTED HERE ({fault}): ITS FAULTS ARE NOT TESTED", file=sys.stderr)


def shell() -> int:
    """Start a cluster and a shell in it; the cluster ends with the shell."""
    fault = missing()
    if fault:
        print(f"no SLURM can be started here: {fault}", file=sys.stderr)
        return 1
    _make_environment()
    with Cluster() as cluster:
        print(cluster.run("sinfo"))
        print("A SLURM of your own, until you leave this shell. For the pipeline:")
        print("    snakemake --profile slurm    # the GPUs are none: device: cpu in config.yaml")
        path = f"{SLURM_PYTHON.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        command = cluster.inside(os.environ.get("SHELL", "/bin/sh"))
        return subprocess.run(command, env={**os.environ, "PATH": path}, check=False).returncode


def _make_environment() -> None:
    """Make an environment with the executor plugin, layered on the one of this Python.

    Beside a SLURM that does not answer, the plugin makes Snakemake start ten seconds later.
    """
    folder = SLURM_PYTHON.parents[1]
    stamp = folder / ".installed"
    project = REPOSITORY / "pyproject.toml"
    constraints = REPOSITORY / "constraints.txt"
    newest = max(project.stat().st_mtime, constraints.stat().st_mtime)
    if stamp.exists() and stamp.stat().st_mtime > newest:
        return
    venv.create(folder, clear=True, symlinks=True)
    below = next(path for path in sys.path if path.endswith("site-packages"))
    (layer,) = folder.glob("lib/python*/site-packages")
    (layer / "layer.pth").write_text(f"import site; site.addsitedir({below!r})\n")
    extras = tomllib.loads(project.read_text())["project"]["optional-dependencies"]
    pip = [SLURM_PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--constraint", constraints, *extras["slurm"]], check=True)
    # Snakemake's own command is below.
    (folder / "bin" / "snakemake").write_text(
        f'#!/bin/sh\nexec "{SLURM_PYTHON}" -m snakemake "$@"\n'
    )
    (folder / "bin" / "snakemake").chmod(0o755)
    stamp.touch()


if __name__ == "__main__":
    sys.exit({"prepare": prepare, "shell": shell}[sys.argv[1]]())
