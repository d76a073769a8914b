"""What jobs are given: of the user's environment what they need, and here GPUs that do not work."""

import os
from pathlib import Path

from .conftest import SHORT, SlurmWorkspace, wait_until

ONE = {**SHORT, "seeds": [0]}


def test_jobs_are_handed_no_secret_and_hand_on_no_file(workspace: SlurmWorkspace) -> None:
    workspace.configure(**ONE)
    secrets = {
        "GITHUB_TOKEN": "s3cret",
        "https_proxy": "http://me:s3cret@proxy",
        "MINE": "s3cret to others",
        "CUDA_VISIBLE_DEVICES": "7",  # of this machine
        "LC_TIME": "C.UTF-8",
    }
    umask = os.umask(0)
    try:
        with workspace.started("--envvars", "MINE", **secrets) as run:
            wait_until(workspace.trainers)
            environments = [environment(trainer) for trainer in workspace.trainers()]
            assert run.wait() == 0, run.printed()
    finally:
        os.umask(umask)
    assert environments
    for given in environments:
        assert [name for name, value in given.items() if "s3cret" in value] == ["MINE"]
        assert {"PATH", "HOME", "OPPROOF_FROZEN_CONFIG", "SLURM_JOB_ID"} <= given.keys()
        assert given["LC_TIME"] == "C.UTF-8"
        assert given.get("CUDA_VISIBLE_DEVICES") != "7"
    assert "Not handed to jobs (" in run.printed()
    assert "s3cret" not in run.printed()
    new = workspace.folder / "results/train"
    assert not [path for path in new.rglob("*") if path.stat().st_mode & 0o027]
    assert (workspace.folder / ".snakemake").stat().st_mode & 0o077 == 0


def environment(process: int) -> dict[str, str]:
    """Return the environment that a process was started with."""
    entries = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


def test_a_retry_keeps_off_a_node_whose_gpu_does_not_work(workspace: SlurmWorkspace) -> None:
    """Until there is none left, which ends the run; the next one gives all of them a new chance."""
    workspace.configure(**ONE, device="auto")
    own = ("verify:gpu=1", "verify:slurm_extra='--nice=1'")
    run = workspace.snakemake("--set-resources", *own)
    assert run.returncode != 0
    for node in ("n1", "n2"):
        assert f", SLURM's node {node} (" in run.stdout
        assert (workspace.folder / "results/state/bad-nodes" / node).exists()
    assert "a retry goes elsewhere" in run.stdout
    assert "--nice=1 --exclude=n1,n2" in run.stdout  # what sbatch refuses
    assert set(workspace.jobs().values()) == {"FAILED"}
    workspace.configure(**ONE)
    again = workspace.snakemake()
    assert again.returncode == 0, again.stdout
    assert not (workspace.folder / "results/state/bad-nodes").exists()


def test_nodes_that_the_user_excludes_stay_excluded(workspace: SlurmWorkspace) -> None:
    workspace.configure(**ONE, device="auto")
    run = workspace.snakemake("--slurm-exclude-failed-nodes", "n1", "--retries", "1")
    assert run.returncode != 0
    assert "SLURM's node n2" in run.stdout
    assert "SLURM's node n1" not in run.stdout
    assert "--exclude=n2,n1" in run.stdout
