# What the controller does before the first job and after the last.
import gc
import shutil
import subprocess

from opproof import artifact, clock, damage, planned


def show_summary(*options):
    """Show the table; a fault in that must not hide how the run ended."""
    command = [sys.executable, "-m", "opproof", "summary"]
    subprocess.run([*command, *options], check=False)


def summary_is_new():
    """Tell whether the summary is this run's: younger than what onstart froze."""
    summary = Path(SETTINGS.output, "summary.json")
    frozen = SETTINGS.frozen_path
    return summary.exists() and summary.stat().st_mtime >= frozen.stat().st_mtime


def cancel_orphans():
    """Free SLURM of what a killed run left there; it would go on training what this one trains."""
    if message := orphans.cancel(Path.cwd()):
        print(message, file=sys.stderr)


def withhold_environment():
    """Cut the environment, all of which jobs are handed, to what they need."""
    if withheld := environment.withhold(os.environ, workflow.envvars):
        print(environment.describe(withheld), file=sys.stderr)


def remove_damaged():
    """Have what is damaged made again: Snakemake would take it for done."""
    for message in damage.remove(Path(SETTINGS.output)):
        print(message, file=sys.stderr)


def set_back_inputs():
    """Date inputs that are from the future back: each job that reads one would fail."""
    files = sorted({Path(file) for job in workflow.dag.jobs for file in job.input})
    for message in clock.set_back(files, newest=SETTINGS.frozen_path):
        print(message, file=sys.stderr)


if workflow.is_main_process:
    gc.disable()  # until onstart: what planning makes all stays, and takes a tenth longer to search
    planned.announce(SETTINGS)
    # The files of another run that is at work here are not this one's, which will be refused.
    if not workflow.output_settings.dryrun and not holder.is_locked(Path.cwd()):
        remove_damaged()


onstart:
    gc.freeze()
    gc.enable()
    holder.acquire(Path.cwd())
    artifact.sweep(Path(SETTINGS.output))
    artifact.sweep_shared(Path(SETTINGS.data.folder))
    SETTINGS.freeze()
    set_back_inputs()
    bad_nodes.clear(Path(SETTINGS.output))
    if workflow.executor_plugin.name == "slurm":
        cancel_orphans()
        withhold_environment()


onsuccess:
    holder.release(Path.cwd())
    if summary_is_new():
        shutil.rmtree(f"{SETTINGS.output}/partial-summary", ignore_errors=True)
        show_summary("--show")


onerror:
    holder.release(Path.cwd())
    show_summary("--partial")
