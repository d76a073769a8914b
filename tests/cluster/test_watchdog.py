"""Where the executor plugin or SLURM would wait for ever: the run ends, and the next completes.

On a cluster without accounting, as many are, but with sacct installed, as they have it.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import LONG, SHORT, SlurmWorkspace
from .slurm_cluster import Cluster

Undisturbed = Callable[..., dict[str, Any]]

ENDED = "This run would wait for ever"
SOON = "--logger-opproof-patience=30"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A SLURM without accounting."""
    with Cluster(accounting=False) as running:
        yield running


def test_without_accounting_a_run_completes(
    workspace: SlurmWorkspace, undisturbed: Undisturbed
) -> None:
    workspace.configure(**SHORT)
    run = workspace.snakemake()
    assert run.returncode == 0, run.stdout
    assert workspace.results() == undisturbed(**SHORT)
    workspace.assert_nothing_is_left()


def test_asking_sacct_without_accounting(
    workspace: SlurmWorkspace, undisturbed: Undisturbed
) -> None:
    workspace.configure(**SHORT)
    run = workspace.snakemake("--slurm-status-command=sacct", SOON)
    assert run.returncode != 0
    assert ENDED in run.stdout
    assert "ended in SLURM as COMPLETED, which Snakemake has not noticed" in run.stdout
    completes_now(workspace, undisturbed, SHORT)


def test_a_job_that_can_never_start(workspace: SlurmWorkspace, undisturbed: Undisturbed) -> None:
    workspace.configure(**SHORT)
    run = workspace.snakemake(SOON, "--default-resources", "slurm_partition=brief", "runtime=30")
    assert run.returncode != 0
    assert ENDED in run.stdout
    assert "cannot start: SLURM gives PartitionTimeLimit as the reason" in run.stdout
    completes_now(workspace, undisturbed, SHORT)


def test_slurmctld_is_away_where_nothing_else_tells_of_jobs(
    workspace: SlurmWorkspace, undisturbed: Undisturbed
) -> None:
    workspace.configure(**LONG)
    with workspace.started() as run:
        workspace.training_job()
        workspace.cluster.kill("slurmctld")
        time.sleep(75)
        workspace.cluster.start_controller()
        if run.wait() != 0:
            assert ENDED in run.printed()
    completes_now(workspace, undisturbed, LONG)


@pytest.mark.parametrize(
    ("lie", "patience", "config", "words"),
    [
        pytest.param(
            "exit 1", 10, SHORT, "SLURM does not answer: squeue: exit status 1", id="errors"
        ),
        pytest.param("exit 0", 30, SHORT, "SLURM does not know it any more", id="nothing"),
        pytest.param(
            "exec {squeue} \"$@\" | sed 's/COMPLETED/RUNNING/'",
            30,
            SHORT,
            "runs on past its time limit, says SLURM",
            id="RUNNING",
        ),
        pytest.param(
            "exec {squeue} \"$@\" | sed -E 's/PENDING|RUNNING/COMPLETED/'",
            100,
            LONG,
            "MissingOutputException",
            id="COMPLETED",
        ),
    ],
)
def test_a_squeue_that_lies(
    workspace: SlurmWorkspace,
    undisturbed: Undisturbed,
    tmp_path: Path,
    lie: str,
    patience: int,
    config: dict[str, Any],
    words: str,
) -> None:
    workspace.configure(**config)
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(f"#!/bin/sh\n{lie.format(squeue='/usr/bin/squeue')}\n")
    squeue.chmod(0o755)
    path = f"{squeue.parent}:{workspace.environment()['PATH']}"
    options = (f"--logger-opproof-patience={patience}", "--set-resources", "train:runtime=1")
    run = workspace.snakemake(*options, PATH=path)
    assert run.returncode != 0
    assert words in run.stdout
    completes_now(workspace, undisturbed, config)


def completes_now(
    workspace: SlurmWorkspace, undisturbed: Undisturbed, config: dict[str, Any]
) -> None:
    """Give the command again, as the message says, and see the run complete."""
    assert not list((workspace.folder / ".snakemake" / "locks").glob("*"))
    again = workspace.snakemake()
    assert again.returncode == 0, again.stdout
    assert workspace.results() == undisturbed(**config)
    workspace.assert_nothing_is_left()
