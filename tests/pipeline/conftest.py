"""Runs the pipeline as a user does: in a folder that holds the project, with a config.yaml."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from opproof import mnist
from tests.processes import processes_with

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = ("Snakefile", "csrc", "profiles", "slurm", "workflow")

# Seconds of work, on all of MNIST: the shortest training that still learns something.
SMALL = {"epochs": 1, "batch_size": 600}

# nvcc takes half a minute, and timing minutes: for the one test that runs all of it.
QUICK = {"build": {"cuda": "off"}, "timing": False}

UNDISTURBED: dict[str, Any] = {
    "seeds": [0],
    "backends": ["torch"],
    "train": {"epochs": 2, "batch_size": 600},
}

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="LOUD: not root, so no mount namespace: disk faults are NOT tested"
)


@dataclass
class Workspace:
    """A clone of the project, and what can be asked of a run in it."""

    folder: Path
    mnist: Path

    def configure(self, **config: Any) -> None:
        """Write config.yaml: `config` on top of what is quick, and the MNIST that is there."""
        base = {**QUICK, "train": SMALL, "data": {"folder": str(self.mnist)}}
        (self.folder / "config.yaml").write_text(yaml.safe_dump({**base, **config}))

    def command(self, *options: str) -> list[str]:
        """Return the command line of a run on two cores."""
        return [sys.executable, "-m", "snakemake", "-c2", *options]

    def environment(self, **env: str) -> Mapping[str, str]:
        """Return an environment in which the clone's own package is imported."""
        return {**os.environ, "PYTHONPATH": str(self.folder / "workflow"), **env}

    def snakemake(self, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the pipeline and return its exit status and all that it printed, as stdout."""
        return subprocess.run(
            self.command(*options),
            cwd=self.folder,
            env=self.environment(**env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def planned(self, **env: str) -> dict[str, int]:
        """Return how many jobs of each rule a dry run plans; nothing for nothing to do."""
        run = self.snakemake("--dry-run", "--quiet", "rules", **env)
        assert run.returncode == 0, run.stdout
        table = run.stdout.rpartition("Job stats:")[2].partition("total")[0]
        rows = [line.split() for line in table.splitlines()]
        return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}

    def read(self, path: str) -> dict[str, Any]:
        """Return the content of a JSON file of the results."""
        return json.loads((self.folder / "results" / path).read_text())

    def log(self, path: str) -> str:
        """Return the text of a log."""
        return (self.folder / "results" / "logs" / path).read_text()

    def printed(self) -> str:
        """Return what a run in the background has printed so far."""
        return (self.folder / "printed").read_text()

    def results(self) -> dict[str, Any]:
        """Return what two runs of one configuration must have in common."""
        return self.read("summary.json")["results"]

    def files(self) -> set[str]:
        """Return the results' files, by their paths below results/."""
        root = self.folder / "results"
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def workspace(tmp_path: Path, mnist_folder: Path) -> Workspace:
    """A clone in which nothing has run yet."""
    return clone(tmp_path / "clone", mnist_folder)


def clone(folder: Path, mnist: Path) -> Workspace:
    """Return a workspace with the project's files in `folder`."""
    for name in PROJECT:
        source = REPOSITORY / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / name, ignore=ignore)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name)
    return Workspace(folder, mnist)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, mnist_folder: Path) -> Workspace:
    """A finished run of two epochs with a checkpoint after each; tests make copies of it."""
    workspace = clone(tmp_path_factory.mktemp("undisturbed"), mnist_folder)
    code = workspace.folder / "workflow/opproof/train/run.py"
    interval = "_CHECKPOINT_INTERVAL = 8.0"
    assert interval in code.read_text()
    code.write_text(code.read_text().replace(interval, "_CHECKPOINT_INTERVAL = 0.0"))
    workspace.configure(**UNDISTURBED)
    run = workspace.snakemake()
    assert run.returncode == 0, run.stdout
    return workspace


@pytest.fixture
def finished_copy(undisturbed: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the undisturbed run, to change."""
    shutil.copytree(undisturbed.folder, tmp_path / "copy")
    return Workspace(tmp_path / "copy", undisturbed.mnist)


@pytest.fixture
def verified_copy(finished_copy: Workspace) -> Workspace:
    """A copy of the undisturbed run as it was before it trained."""
    for folder in ("train", "state", "tensorboard"):
        shutil.rmtree(finished_copy.folder / "results" / folder)
    for name in ("summary.json", "summary.csv", "summary.md", "report.html", "check.ok"):
        (finished_copy.folder / "results" / name).unlink()
    return finished_copy


def copy_of_mnist(source: Path, folder: Path) -> Path:
    folder.mkdir()
    for file in mnist.FILES:
        shutil.copyfile(source / file.name, folder / file.name)
    return folder


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def in_namespace(
    workspace: Workspace, mount: str, *options: str
) -> subprocess.CompletedProcess[str]:
    """Run the pipeline where `mount` has been done for it alone."""
    script = f'{mount} && exec "$@"'
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *workspace.command(*options)],
        cwd=workspace.folder,
        env=workspace.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


class started:  # noqa: N801
    """A pipeline that runs in the background, and is ended with all its jobs at the end.

    What it prints goes into the file "printed".
    """

    def __init__(self, workspace: Workspace, *options: str) -> None:
        self.folder = workspace.folder
        with (workspace.folder / "printed").open("w") as printed:
            self.run = subprocess.Popen(
                workspace.command(*options),
                cwd=workspace.folder,
                env=workspace.environment(),
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self.run

    def __exit__(self, *_: object) -> None:
        for process in [self.run.pid, *processes_with("opproof", self.folder)]:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.run.wait()


def wait_for(workspace: Workspace, pattern: str) -> Path:
    """Return the first file that comes to match; the suite's timeout bounds the wait."""
    while not (found := list(workspace.folder.glob(pattern))):
        time.sleep(0.05)
    return found[0]
