# What the controller does before the first job and after the last.
import shutil
import subprocess


def show_summary(*options):
    """Show the table; a fault in that must not hide how the run ended."""
    command = [sys.executable, "-m", "opproof", "summary"]
    subprocess.run([*command, *options], check=False)


def summary_is_new():
    """Tell whether the summary is this run's: younger than what onstart froze."""
    summary = Path(SETTINGS.output, "summary.json")
    frozen = SETTINGS.frozen_path
    return summary.exists() and summary.stat().st_mtime >= frozen.stat().st_mtime


onstart:
    holder.acquire(Path.cwd())
    SETTINGS.freeze()


onsuccess:
    holder.release(Path.cwd())
    if summary_is_new():
        shutil.rmtree(f"{SETTINGS.output}/partial-summary", ignore_errors=True)
        show_summary("--show")


onerror:
    holder.release(Path.cwd())
    show_summary("--partial")
