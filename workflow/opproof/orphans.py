"""Jobs on SLURM that a killed controller has left behind."""

from pathlib import Path

from opproof import slurm


def cancel(folder: Path) -> str | None:
    """Cancel what earlier runs in `folder` still have on SLURM; return what to tell the user.

    For the run that holds the folder, before its first job: what is there by then is nobody's.
    """
    try:
        left = [job.id for job in slurm.jobs_of(folder)]
        slurm.cancel(*left)
    except slurm.SlurmError as error:
        return f"Jobs of an earlier run were not looked for: {error}"
    if not left:
        return None
    return (
        f"Cancelled jobs that a killed run had left on SLURM: {', '.join(left)}. "
        "What they had done is kept."
    )
