"""What befalls SLURM itself."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from .conftest import LONG, SlurmWorkspace, wait_until

Undisturbed = Callable[..., dict[str, Any]]

OUTAGE = 75.0  # seconds


def test_a_node_that_is_lost(workspace: SlurmWorkspace, undisturbed: Undisturbed) -> None:
    """SIGKILL of slurmd: the job starts on the other node while its old trainer still runs."""
    workspace.configure(**LONG)
    with workspace.started() as run:
        job = workspace.training_job()
        node = workspace.cluster.run("squeue", "-h", "-j", job, "-o", "%N").strip()
        (first,) = workspace.trainers()
        workspace.cluster.kill(f"slurmd.{node}")
        os.kill(first, signal.SIGSTOP)
        workspace.start_requeued(job)
        wait_until(lambda: set(workspace.trainers()) - {first})
        os.kill(first, signal.SIGCONT)
        assert run.wait() == 0, run.printed()
    assert workspace.results() == undisturbed(**LONG)
    workspace.cluster.start_node(node)
    workspace.assert_nothing_is_left()


def test_slurmctld_is_away_for_a_while(workspace: SlurmWorkspace, undisturbed: Undisturbed) -> None:
    workspace.configure(**LONG)
    with workspace.started() as run:
        workspace.training_job()
        workspace.cluster.kill("slurmctld")
        time.sleep(OUTAGE)
        workspace.cluster.start_controller()
        if run.wait() != 0:
            assert "give the same command again" in run.printed()
            assert workspace.snakemake().returncode == 0
    assert workspace.results() == undisturbed(**LONG)
    workspace.assert_nothing_is_left()


def test_slurmdbd_is_away(workspace: SlurmWorkspace, undisturbed: Undisturbed) -> None:
    workspace.configure(**LONG)
    workspace.cluster.kill("slurmdbd")
    try:
        run = workspace.snakemake()
    finally:
        workspace.cluster.start_database()
    assert run.returncode == 0, run.stdout
    assert workspace.results() == undisturbed(**LONG)
    workspace.assert_nothing_is_left()
