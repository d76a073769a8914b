"""What SLURM says of its jobs and of itself, asked through its own commands.

Needs the standard library alone.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Between fields, and in none of them.
_SEPARATOR = "\x1f"
_FIELDS = ("%i", "%T", "%r", "%j", "%Z", "%k")

_TIMEOUT = 30.0  # seconds; SLURM's commands give up on their own after 10 to 20


class SlurmError(Exception):
    """SLURM has not done what it was asked; the message holds the command and its words."""


@dataclass(frozen=True)
class Job:
    """A job as squeue shows it; `state` in long form, as RUNNING; `reason`, why it waits.

    `folder` is where it works and `comment` what the executor plugin wrote: its rule.
    """

    id: str
    state: str
    reason: str
    name: str
    folder: str
    comment: str

    @property
    def has_ended(self) -> bool:
        """Whether it will not run again by itself: SLURM forgets it after a while (MinJobAge)."""
        return self.state in _ENDED


_ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}


def is_here() -> bool:
    """Return whether SLURM's commands are on the PATH of this machine."""
    return shutil.which("squeue") is not None


def jobs(*options: str, timeout: float = _TIMEOUT) -> list[Job]:
    """Return the jobs that squeue lists under `options`, ended ones included.

    Raises SlurmError if SLURM does not answer within `timeout` seconds.
    """
    command = ("squeue", "--noheader", "--states=all", f"--format={_SEPARATOR.join(_FIELDS)}")
    output = ask(*command, *options, timeout=timeout)
    lines = [line.split(_SEPARATOR) for line in output.splitlines()]
    return [Job(*(field.strip() for field in line)) for line in lines if len(line) == len(_FIELDS)]


def jobs_of(folder: Path, timeout: float = _TIMEOUT) -> list[Job]:
    """Return the jobs of this user that a Snakemake in `folder` has submitted and that go on.

    Raises SlurmError if SLURM does not answer within `timeout` seconds.
    """
    return [
        job
        for job in jobs("--me", timeout=timeout)
        if job.folder == str(folder) and job.comment.startswith("rule_") and not job.has_ended
    ]


def is_going_on(job: str) -> bool | None:
    """Return whether a job waits or runs; None if SLURM does not answer."""
    try:
        return any(not found.has_ended for found in jobs(f"--jobs={job}"))
    except SlurmError as error:
        return False if "Invalid job id" in str(error) else None


def cancel(*ids: str) -> None:
    """Cancel jobs; those that have ended already are no error. Raises SlurmError."""
    if ids:
        ask("scancel", "--quiet", *ids)


def requeue(job: str) -> None:
    """Make a job start over, an ended one too. Raises SlurmError if SLURM refuses."""
    ask("scontrol", "requeue", job)
    # SLURM would wait for two minutes first.
    ask("scontrol", "update", f"JobId={job}", "StartTime=now")


def configuration(timeout: float = _TIMEOUT) -> dict[str, str]:
    """Return what `scontrol show config` says.

    Raises SlurmError if SLURM does not answer within `timeout` seconds.
    """
    output = ask("scontrol", "show", "config", timeout=timeout)
    pairs = (line.partition("=") for line in output.splitlines())
    return {key.strip(): value.strip() for key, separator, value in pairs if separator}


def ask(*command: str, timeout: float = _TIMEOUT) -> str:
    """Run a command of SLURM and return its output; `timeout` in seconds. Raises SlurmError."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError:
        raise SlurmError(f"{command[0]}: not on the PATH") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]}: no answer within {timeout:g} seconds") from None
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split()) or f"exit status {done.returncode}"
        raise SlurmError(f"{command[0]}: {words}")
    return done.stdout
