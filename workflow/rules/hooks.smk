# What the controller does before the first job and after the last.
import shutil
import subprocess


def show_summary(*options):
    """Show the table; a fault in that must not hide how the run ended."""
    command = [
        sys.executable,
        "-m",
        "opproof",
        "summary",
        "--config",
        SETTINGS.frozen_path,
    ]
    subprocess.run([*command, *options], check=False)


onstart:
    holder.acquire(Path.cwd())
    SETTINGS.freeze()


onsuccess:
    holder.release(Path.cwd())
    shutil.rmtree(f"{SETTINGS.output}/partial", ignore_errors=True)
    show_summary("--show")


onerror:
    holder.release(Path.cwd())
    show_summary("--partial")
