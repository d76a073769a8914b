"""What is written down of a job and of a run, and what is not."""

import json
import os
import platform
import re
import socket
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import pytest

import opproof
from opproof import paths, provenance

ALLOWED = {
    "SLURM_JOB_ID": "77",
    "SLURM_JOB_PARTITION": "gpu",
    "SLURM_JOB_NODELIST": "node[1-2]",
    "CUDA_VISIBLE_DEVICES": "",
}
SECRET = {"GITHUB_TOKEN": "s3cret", "SLURM_JWT": "s3cret", "HTTPS_PROXY": "http://me:s3cret@proxy"}

Git = Callable[..., str]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds the package's code; no repository of git yet."""
    package = tmp_path / "workflow" / "opproof"
    package.mkdir(parents=True)
    (package / "provenance.py").write_text("# code\n")
    monkeypatch.setattr(paths, "TREE", tmp_path)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def git(repository: Path) -> Git:
    """Run git in the folder and return what it prints."""

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
        done = subprocess.run(
            ["git", *identity, *arguments],
            cwd=repository,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    git("init", "--quiet")
    return git


def commit(git: Git) -> str:
    git("add", "--all")
    git("commit", "--quiet", "--allow-empty", "--message", "A commit")
    return git("rev-parse", "HEAD")


def test_a_job_says_where_and_when(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ALLOWED:
        monkeypatch.delenv(name, raising=False)
    job = provenance.of_job()
    started = datetime.fromisoformat(job.pop("started"))
    assert started.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - started) < timedelta(hours=1)
    assert job == {"host": socket.gethostname(), "machine": platform.machine(), "environment": {}}


def test_of_the_environment_only_what_is_known_to_be_harmless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**ALLOWED, **SECRET}.items():
        monkeypatch.setenv(name, value)
    assert provenance.of_job()["environment"] == ALLOWED
    assert "s3cret" not in json.dumps([provenance.of_job(), provenance.of_run()])


def test_a_run_says_with_which_versions() -> None:
    run = provenance.of_run()
    assert run["opproof"] == opproof.__version__
    assert run["python"] == platform.python_version()
    assert run["platform"].startswith("Linux-")
    assert run["packages"] == {
        name: metadata.version(name) for name in ("torch", "torchvision", "numpy", "snakemake")
    }
    assert run["git"] is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", run["git"])


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_PACKAGES", ("torch", "opproof-absent"))
    assert provenance.of_run()["packages"]["opproof-absent"] is None


def test_the_commit_of_the_code(git: Git) -> None:
    head = commit(git)
    assert provenance.of_run()["git"] == head


def test_a_tag_does_not_hide_the_commit(git: Git) -> None:
    head = commit(git)
    git("tag", "--annotate", "v1", "--message", "A version")
    assert provenance.of_run()["git"] == head


def test_edited_code_is_dirty(git: Git, repository: Path) -> None:
    head = commit(git)
    (repository / "workflow" / "opproof" / "provenance.py").write_text("# edited\n")
    assert provenance.of_run()["git"] == f"{head}-dirty"


def test_a_run_elsewhere_asks_for_the_codes_commit(
    git: Git, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = commit(git)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert provenance.of_run()["git"] == head


def test_no_commit_without_a_repository(repository: Path) -> None:
    assert provenance.of_run()["git"] is None


def test_no_commit_in_an_empty_repository(git: Git) -> None:
    assert provenance.of_run()["git"] is None


def test_no_commit_without_git(git: Git, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commit(git)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.of_run()["git"] is None


def test_a_commit_that_does_not_hold_the_code_is_not_its_commit(
    git: Git, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed package, in an environment inside the repository of something else."""
    commit(git)
    monkeypatch.setattr(paths, "TREE", repository / "workflow" / "opproof")
    assert provenance.of_run()["git"] is None
