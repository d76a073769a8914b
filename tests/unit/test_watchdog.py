import logging
import time
from collections.abc import Iterable
from typing import Any

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from opproof import slurm
from snakemake_logger_plugin_opproof.progress import Progress
from snakemake_logger_plugin_opproof.watchdog import Watchdog

PATIENCE = 300.0
ADMINISTRATOR = 12 * PATIENCE


class Cluster:
    """A SLURM that says what a test wants: `says`, the jobs' states and reasons, or no answer."""

    def __init__(self) -> None:
        self.now = 0.0
        self.says: dict[str, tuple[str, str]] | None = {}
        self.requeued: list[str] = []
        self.cancelled: list[str] = []
        self.requeues = True

    def clock(self) -> float:
        return self.now

    def jobs(self, *options: str) -> list[slurm.Job]:
        assert options == ("--name=the-run",)
        if self.says is None:
            raise slurm.SlurmError("squeue: Unable to contact slurm controller")
        return [
            slurm.Job(id, state, reason, "the-run", "/folder", "rule_train")
            for id, (state, reason) in self.says.items()
        ]

    def requeue(self, job: str) -> None:
        if not self.requeues:
            raise slurm.SlurmError("scontrol: Requested operation is presently disabled")
        self.requeued.append(job)

    def cancel(self, *jobs: str) -> None:
        self.cancelled += jobs


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    for name in ("jobs", "requeue", "cancel"):
        monkeypatch.setattr(slurm, name, getattr(cluster, name))
    return cluster


def records(*jobs: int, limit: int = 60) -> Iterable[logging.LogRecord]:
    """Yield what Snakemake says when `jobs` are submitted: job 1 as SLURM's 101, and so on."""
    yield record("", event=LogEvent.RUN_INFO, stats={"train": 5, "summary": 1})
    yield record("", event=LogEvent.RESOURCES_INFO, nodes=10)
    for job in jobs:
        yield started(job, limit=limit)
        yield record(f"Job {job} has been submitted with SLURM jobid {100 + job} (log: x).")


def record(message: str, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("snakemake", logging.INFO, "", 0, message, None, None)
    vars(made).update(fields)
    return made


def started(job: int, rule: str = "train", local: bool = False, limit: int = 60) -> Any:
    return record(
        "",
        event=LogEvent.JOB_INFO,
        jobid=job,
        rule_name=rule,
        local=local,
        resources={"runtime": limit},
    )


def watching(cluster: Cluster, seen: Iterable[logging.LogRecord]) -> Watchdog:
    progress = Progress(cluster.clock)
    watchdog = Watchdog(progress, PATIENCE, lambda: None, cluster.clock)
    watchdog._run = "the-run"  # without the thread, which the run's name would start
    for each in seen:
        progress.see(each)
        watchdog.see(each)
    return watchdog


def verdict(cluster: Cluster, watchdog: Watchdog, *, after: float) -> str | None:
    """Look now and `after` seconds, on which the watchdog alone looks at the clock."""
    assert watchdog.look() is None
    cluster.now += after
    return watchdog.look()


TROUBLES = {
    "forgotten": ({}, PATIENCE, "SLURM does not know it any more"),
    "cancelled": ({"101": ("CANCELLED", "None")}, PATIENCE, "ended in SLURM as CANCELLED"),
    "completed": ({"101": ("COMPLETED", "None")}, PATIENCE, "ended in SLURM as COMPLETED"),
    "limit": ({"101": ("PENDING", "PartitionTimeLimit")}, PATIENCE, "gives PartitionTimeLimit"),
    "quota": (
        {"101": ("PENDING", "QOSMaxMemoryPerJob")},
        PATIENCE,
        "cannot start: SLURM gives QOSMaxMemoryPerJob",
    ),
    "held": ({"101": ("PENDING", "(launch failed requeued held)")}, PATIENCE, "launch failed"),
    "down": (
        {"101": ("PENDING", "ReqNodeNotAvail, UnavailableNodes:n1")},
        ADMINISTRATOR,
        "ReqNodeNotAvail",
    ),
    "silent": (None, ADMINISTRATOR, "SLURM does not answer: squeue: Unable to contact"),
    "stuck": ({"101": ("COMPLETING", "None")}, ADMINISTRATOR, "is COMPLETING, and stays so"),
}


@pytest.mark.parametrize(("says", "patience", "words"), TROUBLES.values(), ids=TROUBLES)
def test_a_trouble_ends_the_run_once_it_has_lasted(
    cluster: Cluster, says: dict[str, tuple[str, str]] | None, patience: float, words: str
) -> None:
    cluster.says = says
    watchdog = watching(cluster, records(1))
    assert verdict(cluster, watchdog, after=patience - 1) is None
    cluster.now += 1
    message = watchdog.look()
    assert message
    assert "SLURM job 101 (train): " in message
    assert words in message
    assert "give the same command again" in message


@pytest.mark.parametrize(
    "job",
    [
        ("RUNNING", "None"),
        ("PENDING", "Priority"),
        ("PENDING", "Resources"),
        ("PENDING", "QOSMaxJobsPerUserLimit"),
        ("PENDING", "AssocGrpGRESMinutes"),
        ("PENDING", "BeginTime"),
    ],
    ids=" ".join,
)
def test_a_job_that_may_still_end_well_is_waited_for(
    cluster: Cluster, job: tuple[str, str]
) -> None:
    cluster.says = {"101": job}
    watchdog = watching(cluster, records(1, limit=10_000_000))
    assert verdict(cluster, watchdog, after=100 * PATIENCE) is None


def test_one_job_in_trouble_is_told_of_and_the_others_are_waited_for(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.says = {"101": ("RUNNING", "None")}
    watchdog = watching(cluster, records(1, 2))
    assert verdict(cluster, watchdog, after=PATIENCE) is None
    assert watchdog.look() is None
    assert caplog.messages == ["SLURM job 102 (train): SLURM does not know it any more."]
    cluster.says = {}
    watchdog.look()
    cluster.now += PATIENCE
    assert watchdog.look()


def test_a_trouble_that_passes_starts_anew(cluster: Cluster) -> None:
    watchdog = watching(cluster, records(1))
    assert verdict(cluster, watchdog, after=PATIENCE - 1) is None
    cluster.says = {"101": ("RUNNING", "None")}
    assert watchdog.look() is None
    cluster.says = {}
    assert verdict(cluster, watchdog, after=PATIENCE - 1) is None


def test_a_job_on_this_machine_is_waited_for(cluster: Cluster) -> None:
    watchdog = watching(cluster, [*records(1), started(2, "summary", local=True)])
    assert verdict(cluster, watchdog, after=100 * PATIENCE) is None


def test_another_attempt_is_not_taken_for_the_one_before(cluster: Cluster) -> None:
    cluster.says = {"101": ("FAILED", "None")}
    again = [record("", event=LogEvent.JOB_ERROR, jobid=1), started(1)]
    watchdog = watching(cluster, [*records(1), *again])
    assert verdict(cluster, watchdog, after=100 * PATIENCE) is None  # being submitted
    watchdog.see(record("Job 1 has been submitted with SLURM jobid 105 (log: x)."))
    cluster.says["105"] = ("PENDING", "Priority")
    assert verdict(cluster, watchdog, after=100 * PATIENCE) is None


def test_a_job_past_its_time_limit(cluster: Cluster) -> None:
    cluster.says = {"101": ("RUNNING", "None")}
    watchdog = watching(cluster, records(1, limit=60))
    assert verdict(cluster, watchdog, after=3600) is None
    cluster.now += 1
    assert watchdog.look() is None
    cluster.now += PATIENCE
    assert "runs on past its time limit, says SLURM" in (watchdog.look() or "")


def test_a_preempted_job_is_put_into_the_queue_again(cluster: Cluster) -> None:
    cluster.says = {"101": ("PREEMPTED", "None")}
    watchdog = watching(cluster, records(1))
    assert watchdog.look() is None
    assert cluster.requeued == []  # SLURM may do so itself
    assert watchdog.look() is None
    assert cluster.requeued == ["101"]
    cluster.says = {"101": ("PENDING", "Resources")}
    assert verdict(cluster, watchdog, after=100 * PATIENCE) is None


def test_a_preempted_job_that_slurm_does_not_start_again(cluster: Cluster) -> None:
    cluster.says = {"101": ("PREEMPTED", "None")}
    cluster.requeues = False
    watchdog = watching(cluster, records(1))
    message = verdict(cluster, watchdog, after=PATIENCE)
    assert message
    assert "was preempted, and SLURM does not start it again (scontrol: Requested" in message


def test_the_end(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """The thread itself: the message, the jobs that are left cancelled, the process ended."""
    cluster.says = {"101": ("PENDING", "JobHeldUser"), "102": ("FAILED", "None")}
    ended: list[float] = []
    progress = Progress()
    watchdog = Watchdog(progress, 0.05, lambda: ended.append(time.monotonic()))
    for each in [*records(1, 2), record("SLURM run ID: the-run")]:
        progress.see(each)
        watchdog.see(each)
    while not ended:
        time.sleep(0.01)
    assert cluster.cancelled == ["101"]
    assert "This run would wait for ever" in caplog.text


def test_it_does_not_ask_while_something_goes_on(cluster: Cluster) -> None:
    cluster.says = None
    asked: list[tuple[str, ...]] = []
    slurm.jobs = lambda *options: asked.append(options) or []  # type: ignore[assignment]
    progress = Progress()
    watchdog = Watchdog(progress, 0.5, lambda: None)
    for each in [*records(1), record("SLURM run ID: the-run")]:
        progress.see(each)
        watchdog.see(each)
    for _ in range(20):
        progress.see(record("something"))
        time.sleep(0.02)
    watchdog.stop()
    assert asked == []


def test_many_troubles_are_not_all_listed(cluster: Cluster) -> None:
    watchdog = watching(cluster, records(*range(1, 101)))
    message = verdict(cluster, watchdog, after=PATIENCE)
    assert message
    assert len(message.splitlines()) == 23
    assert "  and 80 more" in message
