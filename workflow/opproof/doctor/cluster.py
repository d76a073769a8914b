"""What SLURM is like here, and what of it a pipeline must know."""

import os

from opproof.doctor.finding import Finding, State, fault, ok, warning
from opproof.doctor.question import Question
from opproof.doctor.site import Partition, Site
from opproof.slurm import SlurmError


def check(asked: Question[Site | None]) -> list[Finding]:
    """Say what SLURM tells of itself."""
    site = asked.answer()
    if site is None:
        return [ok("not on this machine, which is judged for runs on it alone"), *_around()]
    if site.error:
        answer = fault(
            f"no answer: {site.error}",
            "ask your administrators; runs on this machine alone (make run) need no SLURM",
        )
        return [answer, *_around()]
    version, name = site.config.get("SLURM_VERSION", "?"), site.config.get("ClusterName", "?")
    return [
        ok(f"SLURM {version} of the cluster {name} answers"),
        *_around(),
        _accounting(site),
        *([_accounts(site)] if site.has_accounting else []),
        ok(_requeue(site)),
        *_partitions(site),
    ]


def _around() -> list[Finding]:
    """Say what this process's own surroundings have to do with SLURM."""
    findings = []
    if job := os.environ.get("SLURM_JOB_ID"):
        findings.append(
            warning(
                f"this is inside SLURM's job {job}: a pipeline started here ends with it",
                "start it on a login node, or with sbatch slurm/pipeline.sbatch",
            )
        )
    if path := os.environ.get("SLURM_CONF"):
        findings.append(
            warning(
                f"SLURM_CONF is set, to {path}: the executor plugin takes it from its jobs",
                "if jobs fail for it, ask your administrators for the file in its default place",
            )
        )
    return findings


def _accounting(site: Site) -> Finding:
    if not site.has_accounting:
        return ok("accounting is off: sacct knows no jobs")
    if site.sacct_error:
        return warning(
            f"accounting is on, but sacct does not answer: {site.sacct_error}",
            "nothing, as long as squeue tells the jobs' states",
        )
    return ok("accounting is on, and sacct " + ("answers" if site.has_sacct else "is not here"))


def _accounts(site: Site) -> Finding:
    if isinstance(site.accounts, SlurmError):
        return Finding(State.UNKNOWN, f"your accounts: {site.accounts}")
    if site.accounts:
        return ok(f"your accounts: {', '.join(site.accounts)}; the first is the default")
    if "associations" in site.config.get("AccountingStorageEnforce", ""):
        return fault("you have no account, and SLURM asks for one", "ask your administrators")
    return ok("you have no account, and SLURM asks for none")


def _requeue(site: Site) -> str:
    if site.config.get("JobRequeue") == "0":
        return "jobs are started again by SLURM only where they ask for it (JobRequeue)"
    return "jobs may be started again by SLURM, as after preemption (JobRequeue)"


def _partitions(site: Site) -> list[Finding]:
    findings = [ok(line) for line in _table(site.partitions)]
    if not any(partition.takes_jobs for partition in site.partitions):
        return [*findings, fault("no partition takes jobs", "ask your administrators")]
    if not site.gpu_partitions:
        return [*findings, ok("no partition has a GPU")]
    [(key, value)] = site.gpu_request.items()
    return [*findings, ok(f"a job gets a GPU by {key}: {value} ({site.config.get('SelectType')})")]


def _table(partitions: tuple[Partition, ...]) -> list[str]:
    """Word partitions in aligned lines."""
    rows = [
        (
            f"{entry.name}{'*' if entry.is_default else ''}",
            "up" if entry.is_up else "not up",
            f"{entry.usable}/{entry.nodes} nodes",
            entry.limit,
            " ".join(entry.gpus),
        )
        for entry in partitions
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [map(str.ljust, row, widths) for row in rows]
    return [f"partition {'  '.join(row)}".rstrip() for row in cells]
