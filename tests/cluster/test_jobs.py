"""What befalls a job: it is tried again, goes on from its checkpoint, and the run completes."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import LONG, SHORT, SlurmWorkspace, wait_until

Undisturbed = Callable[..., dict[str, Any]]


def test_a_run_from_nothing(workspace: SlurmWorkspace, undisturbed: Undisturbed) -> None:
    workspace.configure(**SHORT)
    run = workspace.snakemake()
    assert run.returncode == 0, run.stdout
    assert "torch" in run.stdout.partition("accuracy")[2]
    assert list(workspace.jobs().values()) == ["COMPLETED"] * 2
    assert workspace.results() == undisturbed(**SHORT)
    workspace.assert_nothing_is_left()


def scancel(workspace: SlurmWorkspace, job: str) -> None:
    workspace.cluster.run("scancel", job)


def terminate(workspace: SlurmWorkspace, job: str) -> None:
    workspace.cluster.run("scancel", "--signal=TERM", job)


def kill_the_trainer(workspace: SlurmWorkspace, job: str) -> None:
    for trainer in workspace.trainers():
        os.kill(trainer, signal.SIGKILL)


def requeue(workspace: SlurmWorkspace, job: str) -> None:
    workspace.cluster.run("scontrol", "requeue", job)
    workspace.start_requeued(job)


def preempt(workspace: SlurmWorkspace, job: str) -> None:
    urgent = ("--partition=urgent", "--nodes=2", "--exclusive", "--wrap=sleep 5")
    workspace.cluster.run("sbatch", "--output=/dev/null", *urgent)
    wait_until(lambda: workspace.jobs()[job] != "RUNNING")


@pytest.mark.parametrize(
    ("fault", "partition"),
    [
        pytest.param(scancel, "main", id="scancel"),
        pytest.param(terminate, "main", id="SIGTERM"),
        pytest.param(kill_the_trainer, "main", id="SIGKILL"),
        pytest.param(requeue, "main", id="scontrol requeue"),
        pytest.param(preempt, "requeued", id="preempted, REQUEUE"),
        pytest.param(preempt, "cancelled", id="preempted, CANCEL"),
    ],
)
def test_a_job_that_is_disturbed_goes_on(
    workspace: SlurmWorkspace,
    undisturbed: Undisturbed,
    fault: Callable[[SlurmWorkspace, str], None],
    partition: str,
) -> None:
    workspace.configure(**LONG)
    with workspace.started("--default-resources", f"slurm_partition={partition}") as run:
        fault(workspace, workspace.training_job())
        assert run.wait() == 0, run.printed()
    assert "epoch 1/5" not in workspace.log("train/torch/0.log")
    assert workspace.results() == undisturbed(**LONG)
    workspace.assert_nothing_is_left()


def test_a_job_with_too_little_time_gets_more(
    workspace: SlurmWorkspace, undisturbed: Undisturbed
) -> None:
    workspace.configure(**LONG)
    with workspace.started("--set-resources", "train:runtime=attempt") as run:
        job = workspace.training_job()
        for trainer in workspace.trainers():
            os.kill(trainer, signal.SIGSTOP)  # slower than its minute allows
        assert run.wait() == 0, run.printed()
    assert workspace.jobs()[job] == "TIMEOUT"
    assert workspace.results() == undisturbed(**LONG)
    workspace.assert_nothing_is_left()


def test_a_job_with_too_little_memory_gets_more(
    workspace: SlurmWorkspace, undisturbed: Undisturbed
) -> None:
    workspace.configure(**SHORT)
    run = workspace.snakemake("--set-resources", "train:mem_mb=250 * attempt**3")
    assert run.returncode == 0, run.stdout
    assert list(workspace.jobs().values()).count("COMPLETED") == 2
    assert len(workspace.jobs()) > 2
    assert workspace.results() == undisturbed(**SHORT)
    workspace.assert_nothing_is_left()
