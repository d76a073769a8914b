"""Runs the pipeline as a user does: in a folder that holds the project, with a config.yaml."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = ("Snakefile", "csrc", "profiles", "slurm", "workflow")

# Seconds of work, on all of MNIST: the shortest training that still learns something.
SMALL = {"epochs": 1, "batch_size": 600}

# nvcc takes half a minute, and timing minutes: for the one test that runs all of it.
QUICK = {"build": {"cuda": "off"}, "timing": False}


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
