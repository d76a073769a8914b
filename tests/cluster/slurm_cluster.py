"""A real SLURM on this machine: Debian's munge, slurmctld, two slurmd, slurmdbd on MariaDB.

Needs root and Debian's packages (slurm-wlm, munge, slurmdbd, mariadb-server). All of it has ports
and folders of its own and lives in a mount and a pid namespace of its own: nothing of the machine's
is touched, and with the namespace's first process all the others end.
"""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge", "slurmdbd", "mariadb-server")
_PROGRAMS = (
    "slurmctld",
    "slurmd",
    "slurmdbd",
    "munged",
    "mariadbd",
    "unshare",
    "nsenter",
    "setpriv",
)
NODES = ("n1", "n2")

_SLURM_CONF = """\
ClusterName=opproof
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
GresTypes=gpu
# The machine may have fewer than a node says.
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
# A node whose slurmd is gone is down after this many seconds.
SlurmdTimeout=10
KillWait=5
MinJobAge=300
SchedulerParameters=batch_sched_delay=1,bf_interval=5,sched_min_interval=200000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{accounting}
{nodes}
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 PreemptMode=OFF
PartitionName=requeued Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE
PartitionName=cancelled Nodes=ALL PriorityTier=1 PreemptMode=CANCEL
PartitionName=brief Nodes=ALL MaxTime=1 PreemptMode=OFF
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""

_NODE = "NodeName={name} NodeAddr=127.0.0.1 Port={port} CPUs=8 RealMemory=16000 Gres=gpu:2"

_WITH_ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd}"""

_SLURMDBD_CONF = """\
AuthType=auth/munge
DbdHost=localhost
DbdPort={dbd}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
"""


def missing() -> str | None:
    """Say what keeps a cluster from being started here, None if nothing does."""
    if os.geteuid() != 0:
        return "not root"
    absent = [name for name in _PROGRAMS if not shutil.which(name, path=_PATH)]
    return f"not installed: {', '.join(absent)}" if absent else None


# What is killed can't clean up: the cluster ends with the process that started it.
_WITH_THIS_PROCESS = ("setpriv", "--pdeathsig=KILL")
_OWN = ("--mount", "--pid", "--fork", "--kill-child", "--mount-proc")

# Daemons lie where a user's PATH may not lead.
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


class Cluster:
    """Two nodes, n1 and n2, with two GPUs each, which are character devices and nothing more.

    Partitions: main; requeued and cancelled, whose jobs are preempted by those of urgent; brief, in
    which a job of more than a minute waits for ever.
    """

    def __init__(self, *, accounting: bool = True) -> None:
        self.accounting = accounting
        self.folder = Path(tempfile.mkdtemp(prefix="opproof-slurm-"))
        self._init: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Cluster":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._init:
            self._init.kill()
            self._init.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def inside(self, *command: str, folder: Path | None = None) -> list[str]:
        """Return the command line that runs `command` in the cluster, in `folder`."""
        assert self._init
        pid = _only_child(self._init.pid)
        here = folder or Path.cwd()
        return ["nsenter", f"--target={pid}", "--mount", "--pid", f"--wd={here}", *command]

    def run(self, *command: str, check: bool = True, folder: Path | None = None, **env: str) -> str:
        """Run a command in the cluster, in `folder`, and return its output."""
        done = subprocess.run(
            self.inside(*command, folder=folder),
            env={**os.environ, "PATH": _PATH, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}")
        return done.stdout

    def start_controller(self) -> None:
        """Start slurmctld and wait until it answers."""
        self.run("slurmctld")
        self.wait_until(lambda: "UP" in self.run("scontrol", "ping", check=False), "slurmctld")

    def start_node(self, name: str) -> None:
        """Start slurmd of a node and wait until jobs may run there."""
        self.run("slurmd", "-N", name)
        self.wait_until(lambda: self.node_state(name) in ("idle", "mixed"), f"slurmd of {name}")

    def start_database(self) -> None:
        """Start slurmdbd and wait until it answers."""
        self.run("slurmdbd", MYSQL_UNIX_PORT=str(self.folder / "mysql.socket"))
        self.wait_until(
            lambda: "Cluster" in self.run("sacctmgr", "show", "cluster", check=False), "slurmdbd"
        )

    def kill(self, daemon: str) -> None:
        """SIGKILL slurmctld, slurmdbd or slurmd.n1."""
        pid = (self.folder / f"{daemon}.pid").read_text().strip()
        self.run("kill", "-KILL", pid)

    def node_state(self, name: str) -> str:
        """Return a node's state as sinfo has it."""
        return self.run(
            "sinfo", "-h", "-N", "-p", "main", "-n", name, "-o", "%T", check=False
        ).strip()

    def jobs(self, *options: str) -> dict[str, str]:
        """Return the state of every job that slurmctld remembers, by its id."""
        lines = self.run("squeue", "-h", "--states=all", "-o", "%i %T", *options).split()
        return dict(zip(lines[::2], lines[1::2], strict=True))

    def wait_until(self, done: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        """Wait for what comes soon or never."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what}: not there after {seconds:g} s; logs: {self._logs()}")
            time.sleep(0.2)

    def _start(self) -> None:
        ports = _free_ports(3 + len(NODES))
        self._write_configuration(dict(zip(("ctld", "dbd"), ports, strict=False)), ports[3:])
        for name in ("state", "spool", "data", "munge"):
            (self.folder / name).mkdir()
        (self.folder / "munge").chmod(0o755)  # munged wants it so, whatever the umask
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        # munged refuses folders that others may write to, and those that it can't be reached in.
        self.folder.chmod(0o711)
        # SLURM's commands find both where they always are: not all of them heed AuthInfo, and the
        # executor plugin takes SLURM_CONF from its jobs.
        script = (
            f'cd "{self.folder}" && mkdir -p /etc/slurm /run/munge && '
            "mount --bind etc /etc/slurm && mount --bind munge /run/munge && "
            "echo ready && while sleep 3600; do :; done"
        )
        self._init = subprocess.Popen(
            [*_WITH_THIS_PROCESS, "unshare", *_OWN, "bash", "-c", script],
            stdout=subprocess.PIPE,
        )
        assert self._init.stdout
        assert self._init.stdout.readline() == b"ready\n"
        self.run(
            "munged",
            f"--key-file={key}",
            f"--pid-file={self.folder}/munged.pid",
            f"--log-file={self.folder}/munged.log",
            f"--seed-file={self.folder}/munged.seed",
        )
        if self.accounting:
            self._start_mariadb()
            self.start_database()
            self.run("sacctmgr", "--immediate", "add", "cluster", "opproof")
            self.run("sacctmgr", "--immediate", "add", "account", "proof")
            self.run("sacctmgr", "--immediate", "add", "user", "root", "account=proof")
        self.start_controller()
        for name in NODES:
            self.start_node(name)

    def _write_configuration(self, ports: Mapping[str, int], node_ports: Sequence[int]) -> None:
        etc = self.folder / "etc"
        etc.mkdir()
        nodes = [
            _NODE.format(name=name, port=port)
            for name, port in zip(NODES, node_ports, strict=False)
        ]
        known = {"folder": self.folder, "host": socket.gethostname(), **ports}
        accounting = _WITH_ACCOUNTING.format(**known) if self.accounting else ""
        (etc / "slurm.conf").write_text(
            _SLURM_CONF.format(**known, accounting=accounting, nodes="\n".join(nodes))
        )
        # A plain file would not do: slurmd then gives jobs no CUDA_VISIBLE_DEVICES.
        for number in range(2):
            self._device(number)
        (etc / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu[0-1]\n")
        if self.accounting:
            configuration = etc / "slurmdbd.conf"
            configuration.write_text(_SLURMDBD_CONF.format(**known))
            configuration.chmod(0o600)

    def _device(self, number: int) -> None:
        os.mknod(self.folder / f"gpu{number}", 0o20666, os.makedev(1, 3))

    def _start_mariadb(self) -> None:
        data = self.folder / "data"
        self.run(
            "mariadb-install-db",
            "--no-defaults",
            "--user=root",
            f"--datadir={data}",
            "--skip-test-db",
            "--auth-root-authentication-method=socket",
        )
        with (self.folder / "mariadb.log").open("wb") as log:
            subprocess.Popen(
                self.inside(
                    "mariadbd",
                    "--no-defaults",
                    "--user=root",
                    f"--datadir={data}",
                    f"--socket={self.folder}/mysql.socket",
                    "--skip-networking",
                    "--innodb-buffer-pool-size=64M",
                    # It lives as long as a test: what a crash of the machine loses is no loss.
                    "--innodb-flush-log-at-trx-commit=0",
                ),
                env={**os.environ, "PATH": _PATH},
                stdout=log,
                stderr=log,
            )
        self.wait_until((self.folder / "mysql.socket").exists, "MariaDB")

    def _logs(self) -> str:
        tails = []
        for log in sorted(self.folder.glob("*.log")):
            with suppress(OSError):
                tails.append(f"\n{log.name}: {log.read_text(errors='replace')[-1500:]}")
        return "".join(tails)


def _only_child(pid: int) -> int:
    """Return unshare's child: the first process of the namespaces, and the one that is in them."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
