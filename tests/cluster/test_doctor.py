"""What `opproof doctor` says of a real SLURM."""

from .conftest import SHORT, SlurmWorkspace
from .layer import SLURM_PYTHON


def doctor(workspace: SlurmWorkspace) -> str:
    """Return what it prints, and its exit status in the last line."""
    command = f"{SLURM_PYTHON} -m opproof doctor; echo exit status $?"
    env = workspace.environment()
    return workspace.cluster.run("sh", "-c", command, folder=workspace.folder, **env)


def test_a_cluster_that_is_ready(workspace: SlurmWorkspace) -> None:
    workspace.configure(**SHORT)
    said = doctor(workspace)
    assert "exit status 0" in said, said
    assert "FAULT" not in said
    for known in ("main", "urgent", "gpu", "squeue", "MinJobAge", "proof"):
        assert known in said


def test_jobs_of_a_run_that_was_killed(workspace: SlurmWorkspace) -> None:
    workspace.configure(**SHORT)
    orphan = ("--parsable", "--comment=rule_train", "--output=/dev/null", "--wrap=sleep 600")
    job = workspace.cluster.run("sbatch", *orphan, folder=workspace.folder).strip()
    assert job in doctor(workspace).partition("Earlier runs")[2]
    workspace.cluster.run("scancel", job)


def test_a_controller_that_does_not_answer(workspace: SlurmWorkspace) -> None:
    workspace.configure(**SHORT)
    workspace.cluster.kill("slurmctld")
    try:
        said = doctor(workspace)
    finally:
        workspace.cluster.start_controller()
    assert "exit status 1" in said, said
    assert "no answer" in said
