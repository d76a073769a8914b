"""The Makefile in a clone whose path has a space, called from another folder."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import REPOSITORY, Workspace, clone


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, mnist_folder: Path) -> Workspace:
    """A clone with the Makefile and an environment that need not be installed anew."""
    workspace = clone(tmp_path_factory.mktemp("a clone"), mnist_folder)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (workspace.folder / name).write_bytes((REPOSITORY / name).read_bytes())
    workspace.configure(seeds=[0], backends=["torch"])
    scripts = workspace.folder / "env dir" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (scripts / "python").chmod(0o755)
    (scripts.parent / ".opproof-installed").write_text(f"{workspace.folder}\n")
    return workspace


def test_run_shows_the_table_and_then_has_nothing_to_do(made: Workspace, tmp_path: Path) -> None:
    first = make(made, tmp_path, "run")
    assert first.returncode == 0, first.stdout
    assert first.stdout.count("report.html") == 1
    second = make(made, tmp_path, "run")
    assert second.returncode == 0, second.stdout
    assert "nothing to be done" in second.stdout.lower()
    assert second.stdout.count("report.html") == 1
    assert "torch" in second.stdout.partition("accuracy")[2]


def test_a_run_that_fails_makes_make_fail(made: Workspace, tmp_path: Path) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text("epochs: 3\n")
    run = make(made, tmp_path, "run", f"CONFIG={config}")
    assert run.returncode != 0
    assert "epochs: unknown key" in run.stdout
    assert "Traceback" not in run.stdout


def test_help_lists_the_targets(made: Workspace, tmp_path: Path) -> None:
    run = make(made, tmp_path)
    assert run.returncode == 0
    for target in ("run", "quick", "test", "tensorboard", "clean"):
        assert f"make {target} " in run.stdout


def make(workspace: Workspace, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "-C", str(workspace.folder), *words, "VENV=env dir"],
        cwd=cwd,
        env=workspace.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_ctrl_c_ends_the_run_and_frees_the_folder(made: Workspace) -> None:
    """As from a terminal, where the signal reaches all processes of the group at once."""
    shutil.rmtree(made.folder / "results", ignore_errors=True)
    made.configure(seeds=[7], backends=["torch"], train={"epochs": 50, "batch_size": 600})
    process = subprocess.Popen(
        [sys.executable, "-m", "opproof", "run", "--cores", "2"],
        cwd=made.folder,
        env=made.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    while not list(made.folder.glob("results/logs/train/torch/0.log")) or not made.log(
        "train/torch/0.log"
    ):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate()
    assert process.returncode != 0
    assert "partial-summary" in printed
    assert not list((made.folder / ".snakemake/locks").glob("*"))
