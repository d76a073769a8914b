"""What befalls the controller: its jobs end with it, or the next run finds them and completes."""

import os
import signal
from collections.abc import Callable
from typing import Any

from .conftest import LONG, QUICKLY, SHORT, SlurmWorkspace, wait_until

Undisturbed = Callable[..., dict[str, Any]]


def test_a_killed_controller_s_jobs_are_cancelled_by_the_next(
    workspace: SlurmWorkspace, undisturbed: Undisturbed
) -> None:
    workspace.configure(**LONG)
    with workspace.started() as run:
        orphan = workspace.training_job()
        run.kill("KILL")
        run.wait()
    assert workspace.jobs()[orphan] == "RUNNING"
    again = workspace.snakemake()
    assert again.returncode == 0, again.stdout
    assert "Cleared the lock of a run that was killed" in again.stdout
    assert f"Cancelled jobs that a killed run had left on SLURM: {orphan}." in again.stdout
    assert workspace.jobs()[orphan] == "CANCELLED"
    assert "epoch 1/5" not in workspace.log("train/torch/0.log")
    assert workspace.results() == undisturbed(**LONG)
    workspace.assert_nothing_is_left()


def test_ctrl_c_cancels_the_jobs(workspace: SlurmWorkspace, undisturbed: Undisturbed) -> None:
    workspace.configure(**LONG)
    with workspace.started() as run:
        job = workspace.training_job()
        run.kill("INT")
        assert run.wait() != 0
    wait_until(lambda: workspace.jobs()[job] == "CANCELLED")
    workspace.assert_nothing_is_left()
    again = workspace.snakemake()
    assert again.returncode == 0, again.stdout
    assert workspace.results() == undisturbed(**LONG)


def test_sigterm_lets_the_jobs_end(workspace: SlurmWorkspace, undisturbed: Undisturbed) -> None:
    workspace.configure(**LONG)
    with workspace.started() as run:
        job = workspace.training_job()
        run.kill("TERM")
        assert run.wait() != 0
    assert workspace.jobs()[job] == "COMPLETED"
    workspace.assert_nothing_is_left()
    again = workspace.snakemake()
    assert again.returncode == 0, again.stdout
    assert len(workspace.jobs()) == 1
    assert workspace.results() == undisturbed(**LONG)


def test_a_second_controller_is_told_who_holds_the_folder(workspace: SlurmWorkspace) -> None:
    workspace.configure(**SHORT)
    job = submit(workspace, "pipeline.sbatch", "--time=10", options=QUICKLY)
    wait_until((workspace.folder / ".snakemake/opproof-holder.json").exists)
    second = workspace.snakemake()
    assert second.returncode != 0
    assert f"SLURM job {job}, user root" in second.stdout
    wait_until(lambda: ended(workspace, job))
    assert workspace.jobs()[job] == "COMPLETED", printed(workspace, job)


def test_a_controller_in_a_job_gives_up_before_its_time_does(
    workspace: SlurmWorkspace, undisturbed: Undisturbed
) -> None:
    """INT comes a minute before the end, and SLURM may send it up to a minute earlier still."""
    workspace.configure(**LONG)
    limits = ("--time=3", "--signal=B:INT@60")
    job = submit(workspace, "pipeline.sbatch", *limits, options=QUICKLY)
    child = workspace.training_job()
    for trainer in workspace.trainers():
        os.kill(trainer, signal.SIGSTOP)  # takes longer than the controller has
    wait_until(lambda: ended(workspace, job))
    assert workspace.jobs()[job] == "FAILED", printed(workspace, job)
    wait_until(lambda: workspace.jobs()[child] == "CANCELLED")
    workspace.assert_nothing_is_left()
    again = submit(workspace, "pipeline.sbatch", options=QUICKLY)
    wait_until(lambda: ended(workspace, again))
    assert workspace.jobs()[again] == "COMPLETED", printed(workspace, again)
    assert workspace.results() == undisturbed(**LONG)


def test_a_controller_that_slurm_starts_again_goes_on(
    workspace: SlurmWorkspace, undisturbed: Undisturbed
) -> None:
    workspace.configure(**LONG)
    job = submit(workspace, "pipeline.sbatch", options=QUICKLY)
    workspace.training_job()
    workspace.cluster.run("scontrol", "requeue", job)
    workspace.start_requeued(job)
    wait_until(lambda: ended(workspace, job))
    assert workspace.jobs()[job] == "COMPLETED", printed(workspace, job)
    assert "Cancelled jobs that a killed run had left" in printed(workspace, job)
    assert workspace.results() == undisturbed(**LONG)
    workspace.assert_nothing_is_left()


def test_all_in_one_job(workspace: SlurmWorkspace, undisturbed: Undisturbed) -> None:
    workspace.configure(**LONG)
    job = submit(workspace, "single_node.sbatch", "--mem=8G", "--time=3", "--signal=B:INT@60")
    wait_until(workspace.trained)
    for trainer in workspace.trainers():
        os.kill(trainer, signal.SIGSTOP)
    wait_until(lambda: "Terminating processes" in printed(workspace, job))
    for trainer in workspace.trainers():
        os.kill(trainer, signal.SIGCONT)  # only a process that runs can end
    wait_until(lambda: ended(workspace, job))
    assert workspace.jobs()[job] == "FAILED", printed(workspace, job)
    workspace.assert_nothing_is_left()
    again = submit(workspace, "single_node.sbatch", "--mem=8G")
    wait_until(lambda: ended(workspace, again))
    assert workspace.jobs()[again] == "COMPLETED", printed(workspace, again)
    assert workspace.results() == undisturbed(**LONG)


def submit(
    workspace: SlurmWorkspace, script: str, *sbatch: str, options: tuple[str, ...] = ()
) -> str:
    """Submit one of the batch scripts as its user does, in an active environment."""
    output = workspace.cluster.run(
        "sbatch",
        "--parsable",
        *sbatch,
        f"slurm/{script}",
        *options,
        folder=workspace.folder,
        **workspace.environment(),
    )
    return output.strip()


def ended(workspace: SlurmWorkspace, job: str) -> bool:
    return workspace.jobs()[job] not in ("PENDING", "RUNNING", "COMPLETING")


def printed(workspace: SlurmWorkspace, job: str) -> str:
    log = workspace.folder / f"opproof-{job}.log"
    return log.read_text() if log.exists() else ""
