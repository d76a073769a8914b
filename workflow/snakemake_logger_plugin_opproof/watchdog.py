"""Ends a run on SLURM that would wait for ever.

The executor plugin (2.8.0) waits without end for a job that it has lost sight of: after SLURM did
not answer for a while, where accounting is off, where the job has been forgotten, where it was
preempted and stays so. SLURM itself keeps a job that can never start. The watchdog asks SLURM on
its own, seldom and only when nothing happens; once no job is left that can still end well, it ends
the run.
"""

import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent

from opproof import slurm
from snakemake_logger_plugin_opproof.progress import Job, Progress

# The signal that ends the controller as Ctrl-C does. SIGINT itself is ignored in what a script has
# started with &.
INTERRUPT = signal.SIGUSR2

_RUN = re.compile(r"SLURM run ID: (\S+)")
_SUBMITTED = re.compile(r"Job (\d+) has been submitted with SLURM jobid (\d+)")

# Why SLURM holds a job back, where waiting does not help: what it asks for is not to be had.
_HOPELESS = re.compile(
    r"AccountNotAllowed|BadConstraints|DependencyNeverSatisfied|InvalidAccount|InvalidQOS|JobHeldUser"
    r"|MaxMemPerLimit|PartitionNodeLimit|PartitionTimeLimit|QOSNotAllowed|ReservationDeleted"
    r"|launch failed requeued held|(Assoc|QOS)(Max|Grp)\w*Per(Job|Node)"
)
# ... and where only an administrator can help, who may.
_DOWN = re.compile(
    r"JobHeldAdmin|Nodes required for job are DOWN|PartitionDown|PartitionInactive|ReqNodeNotAvail"
)

# How many times longer to wait for an administrator, or for SLURM to answer, than for the rest.
_ADMINISTRATOR = 12

_LOOKS_IN_PATIENCE = 5

# Seconds for the run to end once it is interrupted. It cancels its jobs first, and the plugin
# sleeps for up to 180 between two looks at them.
_LAST_RESORT = 300.0


@dataclass(frozen=True)
class Trouble:
    """Why a job will not end well, as long as `kind` lasts; `patience`: seconds for it to pass."""

    kind: str
    cause: str
    patience: float


class Watchdog:
    """Watches the jobs of `progress` once they are on SLURM.

    `patience` is how many seconds a trouble is given to pass by itself; `end` ends this process;
    `clock` gives seconds that never run backwards.
    """

    def __init__(
        self,
        progress: Progress,
        patience: float,
        end: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = progress
        self._patience = patience
        self._end = end
        self._clock = clock
        self._run: str | None = None
        self._ids: dict[int, str] = {}  # SLURM's numbers for jobs, by Snakemake's
        self._since: dict[tuple[str, str], float] = {}  # of each job's trouble, by id and kind
        self._told: set[tuple[str, str]] = set()
        self._running_since: dict[str, float] = {}
        self._stopped = threading.Event()

    def see(self, record: logging.LogRecord) -> None:
        """Take in a record; that which names the run on SLURM starts the watch."""
        message = record.getMessage()
        if self._run is None and (found := _RUN.search(message)):
            self._run = found[1]
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        elif found := _SUBMITTED.search(message):
            self._ids[int(found[1])] = found[2]
        elif getattr(record, "event", None) == LogEvent.JOB_INFO:
            self._ids.pop(vars(record)["jobid"], None)  # another attempt: another number

    def stop(self) -> None:
        """End the watch."""
        self._stopped.set()

    def look(self) -> str | None:
        """Look after the jobs once; return what to tell the user if the run is to be ended."""
        under_way = self._progress.jobs()
        jobs = {
            self._ids[number]: job
            for number, job in under_way.items()
            if job.state == "submitted" and number in self._ids
        }
        if not jobs or len(jobs) < len(under_way):
            return None  # there is one at work on this machine, or about to be submitted
        found = self._troubles(jobs)
        now = self._clock()
        self._since = {
            (id, trouble.kind): self._since.get((id, trouble.kind), now)
            for id, trouble in found.items()
        }
        lasting = {
            id: trouble
            for id, trouble in found.items()
            if now - self._since[id, trouble.kind] >= trouble.patience
        }
        if len(lasting) == len(jobs):
            return _last_words(jobs, lasting)
        for id, trouble in lasting.items():
            if (id, trouble.kind) not in self._told:
                self._told.add((id, trouble.kind))
                logger.warning(f"SLURM job {id} ({jobs[id].stage}): {trouble.cause}.")
        return None

    def _watch(self) -> None:
        interval = self._patience / _LOOKS_IN_PATIENCE
        while not self._stopped.wait(interval):
            if self._clock() - self._progress.last_event < interval:
                continue  # something is going on
            message = self.look()
            if message:
                logger.error(message)
                self._cancel_jobs()
                self._end()
                return

    def _troubles(self, jobs: Mapping[str, Job]) -> dict[str, Trouble]:
        """Return what troubles those of the jobs that are in trouble."""
        try:
            known = {job.id: job for job in slurm.jobs(f"--name={self._run}")}
        except slurm.SlurmError as error:
            trouble = self._of_site("silence", f"SLURM does not answer: {error}")
            return dict.fromkeys(jobs, trouble)
        forgotten = Trouble("forgotten", "SLURM does not know it any more", self._patience)
        found = {
            id: self._trouble(known[id], job.time_limit) if id in known else forgotten
            for id, job in jobs.items()
        }
        return {id: trouble for id, trouble in found.items() if trouble}

    def _trouble(self, job: slurm.Job, time_limit: float | None) -> Trouble | None:
        if job.state != "RUNNING":
            self._running_since.pop(job.id, None)
        match job.state:
            case "PENDING":
                return self._blocked(job)
            case "RUNNING":
                return self._overdue(job, time_limit)
            case "PREEMPTED":
                return self._preempted(job)
            case state if job.has_ended:
                cause = f"ended in SLURM as {state}, which Snakemake has not noticed"
                return Trouble("ended", cause, self._patience)
            case state:
                return self._of_site("state", f"is {state}, and stays so")

    def _blocked(self, job: slurm.Job) -> Trouble | None:
        reason = job.reason.strip("()")
        cause = f"cannot start: SLURM gives {reason} as the reason"
        if _HOPELESS.match(reason):
            return Trouble("blocked", cause, self._patience)
        if _DOWN.match(reason):
            return self._of_site("down", cause)
        return None

    def _overdue(self, job: slurm.Job, time_limit: float | None) -> Trouble | None:
        since = self._running_since.setdefault(job.id, self._clock())
        if time_limit is None or self._clock() - since <= time_limit:
            return None
        return Trouble("overdue", "runs on past its time limit, says SLURM", self._patience)

    def _preempted(self, job: slurm.Job) -> Trouble | None:
        """Have a preempted job start again, unless SLURM does so itself before the next look."""
        cause = "was preempted, and SLURM does not start it again"
        if (job.id, "preempted") in self._since:
            try:
                slurm.requeue(job.id)
            except slurm.SlurmError as error:
                cause += f" ({error})"
            else:
                logger.warning(f"SLURM job {job.id} was preempted; it is in the queue again.")
                return None
        return Trouble("preempted", cause, self._patience)

    def _of_site(self, kind: str, cause: str) -> Trouble:
        return Trouble(kind, cause, _ADMINISTRATOR * self._patience)

    def _cancel_jobs(self) -> None:
        try:
            left = [job.id for job in slurm.jobs(f"--name={self._run}") if not job.has_ended]
            slurm.cancel(*left)
        except slurm.SlurmError as error:
            logger.warning(f"Its jobs could not be cancelled: {error}")


def interrupt() -> None:
    """End this process, the controller, as Ctrl-C would; by force where that does not help."""
    os.kill(os.getpid(), INTERRUPT)
    time.sleep(_LAST_RESORT)
    logger.error("It has not ended by itself, and is ended by force.")
    os._exit(1)


def _last_words(jobs: Mapping[str, Job], troubles: Mapping[str, Trouble]) -> str:
    shown = 20
    lines = [
        f"  SLURM job {id} ({jobs[id].stage}): {trouble.cause}" for id, trouble in troubles.items()
    ]
    if len(lines) > shown:
        lines[shown:] = [f"  and {len(lines) - shown} more"]
    return "\n".join(
        [
            "This run would wait for ever; it is ended, and what is left of its jobs cancelled:",
            *lines,
            "Nothing that was done is lost. See to the causes, then give the same command again.",
        ]
    )
