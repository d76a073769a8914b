"""Runs by the thousand: what planning them takes, and what it leaves out to take no more."""

import re
import subprocess
import time
from pathlib import Path

import pytest

from opproof import mnist

from .conftest import Workspace, copy_of_mnist

BACKENDS = ["torch", "python", "cpp", "fused", "pooled"]
RUNS = 10_000
MEMORY = 400e6  # bytes


def test_ten_thousand_jobs_are_planned_in_little_memory(workspace: Workspace) -> None:
    seeds = {"count": RUNS // len(BACKENDS)}
    workspace.configure(backends=BACKENDS, seeds=seeds, seeds_per_job=1)
    printed = workspace.folder / "printed"
    with printed.open("wb") as file:
        process = subprocess.Popen(
            workspace.command("--dry-run", "--quiet", "rules"),
            cwd=workspace.folder,
            env=workspace.environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, peak_memory(process.pid))
        time.sleep(0.1)
    assert process.returncode == 0, printed.read_text()
    assert re.search(rf"^train +{RUNS}$", printed.read_text(), re.MULTILINE)
    assert 0 < peak < MEMORY


def peak_memory(pid: int) -> float:
    """Return the most memory that a process has had so far, in bytes; 0 of one that has ended.

    What wait4(2) tells is that of the process that started it, too.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return 1024.0 * int(found[1]) if found else 0.0


@pytest.mark.parametrize("file", mnist.FILES, ids=lambda file: file.name)
def test_each_file_of_mnist_is_asked_for(
    workspace: Workspace, tmp_path: Path, file: mnist.IdxFile
) -> None:
    data = copy_of_mnist(workspace.mnist, tmp_path / "data")
    workspace.configure(data={"folder": str(data)})
    assert "data" not in workspace.planned()
    (data / file.name).unlink()
    assert "data" in workspace.planned()


# Imported by every Python of the workspace.
_TOLD_AT_THE_END = """
import atexit, gc, sys

@atexit.register
def tell():
    if "--dry-run" in sys.argv or "--until" in sys.argv:
        print("garbage:", gc.isenabled(), gc.get_freeze_count() > 0, file=sys.stderr)
"""


def test_the_controller_looks_for_garbage_but_not_while_it_plans(workspace: Workspace) -> None:
    workspace.configure(backends=["torch"])
    (workspace.folder / "workflow" / "sitecustomize.py").write_text(_TOLD_AT_THE_END)
    assert "garbage: False False" in workspace.snakemake("--dry-run").stdout
    run = workspace.snakemake("--forcerun", "data", "--until", "data")
    assert run.returncode == 0, run.stdout
    assert "garbage: True True" in run.stdout
