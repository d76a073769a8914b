"""Faults of the executor plugin that OpProof works around, each as small as it can be.

Each test says what the plugin should do. Once one passes, the plugin has been mended: the
workaround named beside it may go.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .layer import SLURM_PYTHON

PROBE = Path(__file__).with_name("plugin_probe.py")


def fault(workaround: str) -> pytest.MarkDecorator:
    return pytest.mark.xfail(
        strict=True, reason=f"snakemake-executor-plugin-slurm 2.8.0; workaround: {workaround}"
    )


@pytest.fixture(scope="module")
def no_slurm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which there is no SLURM, so that importing the plugin asks for nothing."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "which").symlink_to(shutil.which("which") or "/usr/bin/which")
    return {**os.environ, "PATH": str(folder)}


@pytest.mark.parametrize(
    ("command", "state", "wanted"),
    [
        pytest.param("squeue", "RUNNING", "waits", id="control: runs"),
        pytest.param("squeue", "COMPLETED", "succeeded", id="control: completed"),
        pytest.param("squeue", "CANCELLED", "failed", id="control: cancelled, by squeue"),
        pytest.param(
            "squeue",
            "fails",
            "waits",
            marks=fault("slurm-status-attempts in the profile, and the watchdog"),
            id="SLURM does not answer",
        ),
        pytest.param(
            "sacct",
            "CANCELLED by 1000",
            "failed",
            marks=fault("slurm-status-command: squeue in the profile"),
            id="cancelled, by sacct",
        ),
        pytest.param(
            "squeue", "PREEMPTED", "failed", marks=fault("the watchdog requeues it"), id="preempted"
        ),
        pytest.param("squeue", "", "failed", marks=fault("the watchdog"), id="forgotten by SLURM"),
        pytest.param(
            "squeue", "UNKNOWN", "waits", marks=fault("outputs prove themselves"), id="unknown"
        ),
    ],
)
def test_what_becomes_of_a_job(
    command: str, state: str, wanted: str, no_slurm: dict[str, str]
) -> None:
    done = subprocess.run(
        [SLURM_PYTHON, PROBE, command, state],
        env=no_slurm,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == wanted


@fault("the plugin is an extra, in an environment of its own for the tests")
def test_importing_the_plugin_asks_nothing_of_slurm(
    tmp_path: Path, no_slurm: dict[str, str]
) -> None:
    """A controller that does not answer makes every start of Snakemake ten seconds longer."""
    for name in ("which", "sinfo", "scontrol", "squeue", "sacct"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/asked\n")
        (tmp_path / name).chmod(0o755)
    subprocess.run(
        [SLURM_PYTHON, "-c", "import snakemake_executor_plugin_slurm"],
        env={**no_slurm, "PATH": f"{tmp_path}:/usr/bin:/bin"},
        check=True,
    )
    assert "scontrol" not in (tmp_path / "asked").read_text()


@fault("pipelines and test clusters need /etc/slurm/slurm.conf")
def test_a_job_s_step_finds_a_slurm_conf_of_its_own(no_slurm: dict[str, str]) -> None:
    code = (
        "import inspect, snakemake_executor_plugin_slurm_jobstep as jobstep;"
        "print('SLURM_CONF' in inspect.getsource(jobstep.Executor.run_job))"
    )
    done = subprocess.run(
        [SLURM_PYTHON, "-c", code], env=no_slurm, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"
