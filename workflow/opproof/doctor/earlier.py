"""What earlier runs have left of this folder: a lock, and jobs on SLURM."""

from contextlib import suppress
from pathlib import Path

from opproof import holder
from opproof.doctor.finding import Finding, fault, ok, warning
from opproof.doctor.question import Question
from opproof.doctor.site import Site
from opproof.settings import Settings
from opproof.slurm import Job, SlurmError


def check(folder: Path, settings: Settings, asked: Question[Site | None]) -> list[Finding]:
    """Say who holds the folder, and which jobs of a Snakemake that was started in it go on."""
    site, lock = asked.answer(), _lock(folder, settings)
    return [lock, *([_jobs(folder, site.jobs)] if site and not site.error else [])]


def _lock(folder: Path, settings: Settings) -> Finding:
    if not _is_locked(folder, settings):
        return ok("no run holds this folder")
    run = holder.read(folder)
    if run and run.is_alive() is False and run.held_locks(folder):
        return warning(f"locked by a run that was killed: {run}", "nothing: the next run clears it")
    return fault("another run holds this folder", holder.explain(folder))


def _jobs(folder: Path, jobs: tuple[Job, ...] | SlurmError) -> Finding:
    if isinstance(jobs, SlurmError):
        return fault(f"whether jobs go on is not known: {jobs}", "ask your administrators")
    if not jobs:
        return ok("no job of this folder is on SLURM")
    listed = ", ".join(f"{job.id} {job.comment} {job.state.lower()}" for job in jobs)
    run = holder.read(folder)
    if run and run.is_alive():
        return ok(f"jobs of the run that holds it: {listed}")
    return warning(
        f"jobs that an earlier run has left: {listed}",
        "wait for them, or let the next run cancel them and go on from what they have done",
    )


def _is_locked(folder: Path, settings: Settings) -> bool:
    """Return whether another run has locked what a run of these settings would make."""
    made = (settings.output, settings.data.folder)
    for lock in (folder / ".snakemake" / "locks").glob("*.output.lock"):
        with suppress(FileNotFoundError):  # a run that ends removes its own
            for name in map(Path, lock.read_text().splitlines()):
                if any(map(name.is_relative_to, made)):
                    return True
    return False
