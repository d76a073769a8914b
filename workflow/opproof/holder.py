"""Who holds a working folder: written when a run starts, told to the next one that finds it locked.

Snakemake's lock says that a folder is taken, not by whom, and outlives a run that was killed.
"""

import getpass
import os
import secrets
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from opproof import artifact, slurm
from opproof.errors import UserError

_FILE = Path(".snakemake") / "opproof-holder.json"
_LOCKS = Path(".snakemake") / "locks"

# Read when the Snakefile is parsed: later, the SLURM executor has taken them from the environment.
_SLURM_JOB = os.environ.get("SLURM_JOB_ID")
_SLURM_RESTARTS = int(os.environ.get("SLURM_RESTART_COUNT", 0))


@dataclass(frozen=True)
class Holder:
    """A run as it wrote itself down.

    `machine`, `namespace` (of pids) and `boot` are the kernel's names for where `pid` means
    something; `start_time`, in clock ticks since boot, tells the process from a later one of the
    same pid. `slurm_job` is the job that the run itself is, started again `slurm_restarts` times by
    SLURM. `locks` are the run's lock files, by name, with their time of writing in ns: empty
    where another run's could not be told from them. `started` is UTC, in ISO 8601.
    """

    host: str
    machine: str
    namespace: str
    boot: str
    pid: int
    start_time: int
    slurm_job: str | None
    slurm_restarts: int
    user: str
    started: str
    locks: dict[str, int]

    def is_alive(self) -> bool | None:
        """Return whether the run's process lives; None if that can't be told from here."""
        if (self.host, self.machine, self.namespace) != _place():
            return self._job_is_alive()
        if self.boot != _boot():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # another user's, but there
        try:
            state, start_time = _process(self.pid)
        except OSError:
            return None  # the kernel may hide other users' processes (hidepid)
        return start_time == self.start_time and state not in ("Z", "X")

    def _job_is_alive(self) -> bool | None:
        """Return whether the run lives by what SLURM says of the job that it is; None if silent."""
        if self.slurm_job is None:
            return None
        if self.slurm_job == _SLURM_JOB and self.slurm_restarts < _SLURM_RESTARTS:
            return False  # this is the job, started again
        return slurm.is_going_on(self.slurm_job)

    def held_locks(self, folder: Path) -> list[Path]:
        """Return those of the run's lock files that are still in `folder`, the working folder."""
        found = _lock_files(folder)
        return [
            folder / _LOCKS / name
            for name, written in self.locks.items()
            if found.get(name) == written
        ]

    def is_same_process(self, other: "Holder") -> bool:
        """Return whether both were written by one process."""
        return self._process_key() == other._process_key()

    def _process_key(self) -> tuple[str, str, str, str, int, int]:
        return self.host, self.machine, self.namespace, self.boot, self.pid, self.start_time

    def __str__(self) -> str:
        job = f", SLURM job {self.slurm_job}" if self.slurm_job else ""
        return f"pid {self.pid} on host {self.host}{job}, user {self.user}, since {self.started}"


def acquire(folder: Path) -> None:
    """Write down that this process holds `folder`; to be called once Snakemake has locked it.

    A run that holds other files of the same folder, and came first, stays written down.
    Raises UserError if the file can't be written.
    """
    other = read(folder)
    if other and other.is_alive() is not False and other.held_locks(folder):
        return
    artifact.write_json(folder / _FILE, asdict(_this_process(folder)))


def release(folder: Path) -> None:
    """Remove what `acquire` wrote, if it was this process that wrote it."""
    holder = read(folder)
    if holder and holder.is_same_process(_this_process(folder)):
        (folder / _FILE).unlink(missing_ok=True)


def is_locked(folder: Path) -> bool:
    """Return whether a run holds, or held, `folder`: Snakemake would refuse another one."""
    return bool(_lock_files(folder))


def read(folder: Path) -> Holder | None:
    """Return who holds, or last held, `folder`; None if no whole record of it is there."""
    return _read(folder / _FILE)


def clear_stale(folder: Path) -> str | None:
    """Remove the locks of a run that was killed; return what to tell the user, None if no such.

    Only locks that the run wrote itself are removed, and only if its process is provably gone.
    """
    holder = read(folder)
    if holder is None or holder.is_alive() is not False or not holder.held_locks(folder):
        return None
    claimed = folder / _FILE.with_suffix(f".{secrets.token_hex(4)}.stale")
    try:
        (folder / _FILE).rename(claimed)
    except FileNotFoundError:
        return None  # another run clears them
    if _read(claimed) != holder:
        claimed.rename(folder / _FILE)  # another run cleared them, and holds the folder by now
        return None
    for lock in holder.held_locks(folder):
        lock.unlink(missing_ok=True)
    claimed.unlink()
    return (
        f"Cleared the lock of a run that was killed ({holder}). "
        "Jobs that it had started may still be at work."
    )


def explain(folder: Path) -> str:
    """Say who holds `folder`, found locked, and what can be done; as far as is known."""
    holder = read(folder)
    alive = holder.is_alive() if holder else None
    if holder and alive:
        stop = f"scancel {holder.slurm_job}" if holder.slurm_job else f"kill {holder.pid}"
        return f"The run that holds it: {holder}. Wait for it, or end it with: {stop}"
    if holder is None or not holder.held_locks(folder):
        return "Which run holds it is not known: it has left no record of itself."
    if alive is False:
        return (
            f"The run that held it was killed: {holder}. "
            "Clear its lock with the same command and --unlock: snakemake --unlock"
        )
    look = f"squeue -j {holder.slurm_job}" if holder.slurm_job else None
    look = look or f"ssh {holder.host} ps -p {holder.pid}"
    return (
        f"The run that holds it: {holder}. Whether it still runs cannot be told from here; "
        f"look with: {look}\nOnly if it is gone, clear its lock with: snakemake --unlock"
    )


def _this_process(folder: Path) -> Holder:
    host, machine, namespace = _place()
    _, start_time = _process(os.getpid())
    locks = _lock_files(folder)
    # A run has one lock file of each kind ("0.input.lock"): more are of several runs.
    kinds = {name.split(".")[1] for name in locks}
    return Holder(
        host=host,
        machine=machine,
        namespace=namespace,
        boot=_boot(),
        pid=os.getpid(),
        start_time=start_time,
        slurm_job=_SLURM_JOB,
        slurm_restarts=_SLURM_RESTARTS,
        user=_user(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        locks=locks if len(kinds) == len(locks) else {},
    )


def _read(path: Path) -> Holder | None:
    try:
        return Holder(**artifact.read_json(path))
    except (UserError, TypeError):  # missing, damaged, or of another version
        return None


def _lock_files(folder: Path) -> dict[str, int]:
    found = {}
    for path in (folder / _LOCKS).glob("*.*.lock"):
        with suppress(FileNotFoundError):  # a run that ends removes its own
            found[path.name] = path.stat().st_mtime_ns
    return found


def _process(pid: int) -> tuple[str, int]:
    """Return a process's state and start time, fields 3 and 22 of its stat in proc(5)."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat.rpartition(")")[2].split()  # the name, field 2, may have spaces and parentheses
    return fields[0], int(fields[19])


def _place() -> tuple[str, str, str]:
    """Return host, machine and pid namespace: a host's name alone may be shared by containers."""
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = ""
    return socket.gethostname(), machine, str(Path("/proc/self/ns/pid").readlink())


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for the user
        return str(os.getuid())
