"""What a run is doing, as Snakemake's log records tell it."""

import math
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from logging import LogRecord
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from opproof.__main__ import STAGES

_NOT_STAGES = ("all", "total")  # the rule that asks for everything; the sum in Snakemake's counts
_ORDER = list(STAGES)


@dataclass(frozen=True)
class Job:
    """A job under way; `started` on the clock of Progress, in seconds.

    `state`: running; submitted to a cluster, whose queue is not visible here; or unfinished, once
    the run has ended before it. `time_limit`, in seconds, is what it asked the cluster for.
    """

    stage: str
    state: str
    started: float
    time_limit: float | None = None


@dataclass(frozen=True)
class Stage:
    """A stage at one moment, in numbers of jobs.

    `under_way` counts by Job.state. `seconds_to_go` is None where nothing measured tells.
    """

    name: str
    total: int
    done: int
    failed: int
    under_way: Mapping[str, int]
    seconds_to_go: float | None

    @property
    def is_complete(self) -> bool:
        """Whether every job is done."""
        return self.done == self.total

    @property
    def is_at_work(self) -> bool:
        """Whether a job may still finish."""
        return any(state != "unfinished" for state in self.under_way)


class Progress:
    """The state of a run, fed with its log records; safe to read from any thread.

    `clock` gives seconds that never run backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last_event = clock()
        self._totals: dict[str, int] = {}
        self._jobs: dict[int, Job] = {}
        self._failed: dict[int, str] = {}
        # Numbers by stage, kept as records come: each record may ask, in runs of 10,000 jobs.
        self._under_way: Counter[str] = Counter()
        self._side_by_side: Counter[str] = Counter()
        self._done: Counter[str] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)  # of those done, in all
        self._on_cluster = False
        self._ended = False

    def see(self, record: LogRecord) -> str | None:
        """Take in a record; return the stage whose job has finished or failed by it, if any."""
        fields = vars(record)
        with self._lock:
            self._last_event = self._clock()
            if self._ended:
                return None
            match fields.get("event"):
                case LogEvent.RUN_INFO:
                    self._totals = {
                        name: count
                        for name, count in fields["stats"].items()
                        if name not in _NOT_STAGES
                    }
                case LogEvent.RESOURCES_INFO:
                    self._on_cluster = self._on_cluster or "nodes" in fields
                case LogEvent.JOB_INFO:
                    self._start(fields)
                case LogEvent.JOB_FINISHED:
                    return self._finish(fields["job_id"])
                case LogEvent.JOB_ERROR:
                    return self._fail(fields["jobid"])
                case LogEvent.ERROR if number := _job_without_output(record):
                    return self._fail(number)
        return None

    def end(self) -> None:
        """Take note that the run is ending: jobs still under way are unfinished for good."""
        with self._lock:
            self._jobs = {
                number: replace(job, state="unfinished") for number, job in self._jobs.items()
            }
            self._ended = True

    @property
    def last_event(self) -> float:
        """When the last record came, on the clock; the beginning, if none has."""
        with self._lock:
            return self._last_event

    def jobs(self) -> dict[int, Job]:
        """Return the jobs under way, by Snakemake's number for them."""
        with self._lock:
            return dict(self._jobs)

    def stages(self) -> list[Stage]:
        """Return the stages that have something to do, in the pipeline's order."""
        with self._lock:
            return [self._stage(name) for name in sorted(self._totals, key=_position)]

    def stage(self, name: str) -> Stage:
        """Return the stage of that name, one of those in `stages`."""
        with self._lock:
            return self._stage(name)

    def is_complete(self, stage: str | None = None) -> bool:
        """Return whether every job of a stage, or of all, is done; true where there is none."""
        with self._lock:
            stages = self._totals if stage is None else [stage]
            return all(self._done[name] == self._totals[name] for name in stages)

    def _start(self, fields: dict[str, Any]) -> None:
        stage = fields["rule_name"]
        if stage not in self._totals:
            return
        state = "submitted" if self._on_cluster and not fields["local"] else "running"
        minutes = fields["resources"].get("runtime")
        limit = 60.0 * minutes if isinstance(minutes, int | float) else None
        self._drop(fields["jobid"])
        self._jobs[fields["jobid"]] = Job(stage, state, self._clock(), limit)
        self._failed.pop(fields["jobid"], None)  # another attempt
        self._under_way[stage] += 1
        self._side_by_side[stage] = max(self._side_by_side[stage], self._under_way[stage])

    def _finish(self, number: int) -> str | None:
        job = self._drop(number)
        if job is None:
            return None
        self._done[job.stage] += 1
        self._seconds[job.stage] += self._clock() - job.started
        return job.stage

    def _fail(self, number: int) -> str | None:
        job = self._drop(number)
        if job is None:
            return None
        self._failed[number] = job.stage
        return job.stage

    def _drop(self, number: int) -> Job | None:
        """Take a job from those under way and return it; None if it is not there."""
        job = self._jobs.pop(number, None)
        if job:
            self._under_way[job.stage] -= 1
        return job

    def _stage(self, name: str) -> Stage:
        failed = sum(stage == name for stage in self._failed.values())
        jobs = [job for job in self._jobs.values() if job.stage == name]
        waiting = self._totals[name] - self._done[name] - failed - len(jobs)
        return Stage(
            name=name,
            total=self._totals[name],
            done=self._done[name],
            failed=failed,
            under_way=Counter(job.state for job in jobs),
            # After a failure with nothing under way, the rest may never be started.
            seconds_to_go=None
            if self._ended or (failed and not jobs)
            else self._seconds_to_go(name, jobs, waiting),
        )

    def _seconds_to_go(self, name: str, jobs: list[Job], waiting: int) -> float | None:
        """Play the jobs left through as many places as were used at once, each as the mean one.

        None before a job of the stage has finished, and once those left outlast the estimate.
        """
        if not self._done[name]:
            return None
        mean = self._seconds[name] / self._done[name]
        now = self._clock()
        places = [max(job.started + mean - now, 0.0) for job in jobs]
        places += [0.0] * (self._side_by_side[name] - len(places))
        places.sort()
        # All are free within one mean from now, so they take jobs in turns, in this order.
        rounds = math.ceil(waiting / len(places))
        return places[(waiting - 1) % len(places)] + rounds * mean or None


def _position(stage: str) -> int:
    return _ORDER.index(stage) if stage in _ORDER else len(_ORDER)


def _job_without_output(error: LogRecord) -> int | None:
    """Return the job that has left no output by this error: Snakemake tells it in words alone."""
    if vars(error)["exception"] != "MissingOutputException":
        return None
    found = re.search(r"^Job (\d+) ", error.getMessage(), re.MULTILINE)
    return int(found[1]) if found else None
