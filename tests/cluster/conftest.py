"""Runs the pipeline on a real SLURM, as a user does: `snakemake --profile slurm`."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from opproof import artifact
from tests import needs
from tests.pipeline.conftest import Workspace, clone
from tests.processes import processes_with

from . import slurm_cluster
from .layer import SLURM_PYTHON
from .slurm_cluster import Cluster

# What is otherwise in minutes, so that a test ends soon.
QUICKLY = (
    "--slurm-init-seconds-before-status-checks=5",
    "--max-status-checks-per-second=1",
    "--latency-wait=10",
    "--logger-opproof-patience=100",
)

# The GPUs of the test's cluster are none.
ON_CPU: dict[str, Any] = {"device": "cpu", "backends": ["torch"]}
SHORT: dict[str, Any] = {"seeds": [0, 1], "train": {"epochs": 1, "batch_size": 600}}
# Ten seconds and more, so that there is something to disturb.
LONG: dict[str, Any] = {"seeds": [0], "train": {"epochs": 5, "batch_size": 600}}


@dataclass
class SlurmWorkspace(Workspace):
    """A clone of the project in which data, build and verify are done, on a cluster.

    `disturbed` and `ended`: when a fault was about to be made, and when the run ended thereafter.
    """

    cluster: Cluster
    disturbed: float | None = None
    ended: float | None = None

    def command(self, *options: str) -> list[str]:
        """Return the command line of a run on the cluster."""
        snakemake = [str(SLURM_PYTHON), "-m", "snakemake", "--profile", "slurm", *QUICKLY]
        return self.cluster.inside(*snakemake, *options, folder=self.folder)

    def environment(self, **env: str) -> dict[str, str]:
        """Return the environment of a user who has activated the plugin's environment."""
        path = f"{SLURM_PYTHON.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**super().environment(), "PATH": path, **env}

    @contextmanager
    def started(self, *options: str, **env: str) -> Iterator["Run"]:
        """Start a run; what is left of it at the end is killed."""
        with (self.folder / "printed").open("w+") as printed:
            process = subprocess.Popen(
                self.command(*options),
                cwd=self.folder,
                env=self.environment(**env),
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
            run = Run(self, process)
            try:
                yield run
            finally:
                if process.poll() is None:
                    run.kill("KILL")
                    process.kill()
                process.wait()

    def wait_for(self, pattern: str) -> Path:
        """Return the first file of the workspace that comes to match."""
        wait_until(lambda: any(self.folder.glob(pattern)))
        return next(self.folder.glob(pattern))

    def trained(self) -> bool:
        """Return whether a checkpoint is there: a job is in the midst of its training."""
        return any(self.folder.glob("results/state/*/*/checkpoint.pt"))

    def configure(self, **config: Any) -> None:
        """Write config.yaml for a cluster whose GPUs are none."""
        super().configure(**{**ON_CPU, **config})

    def jobs(self) -> dict[str, str]:
        """Return the states of this workspace's jobs, by SLURM's id."""
        lines = self.cluster.run("squeue", "-h", "--states=all", "-o", "%i %T %Z")
        rows = [line.split(maxsplit=2) for line in lines.splitlines()]
        return {id: state for id, state, folder in rows if folder == str(self.folder)}

    def training_job(self) -> str:
        """Return the id of a training job, once it has left a checkpoint behind."""
        wait_until(self.trained)
        lines = self.cluster.run("squeue", "-h", "--states=RUNNING", "-o", "%i %k %Z").splitlines()
        rows = [line.split(maxsplit=2) for line in lines if "rule_train" in line]
        self.disturbed = time.monotonic()
        return next(id for id, _, folder in rows if folder == str(self.folder))

    def start_requeued(self, job: str) -> None:
        """Have a requeued job start at once: SLURM would wait for two minutes."""
        wait_until(lambda: self.jobs()[job] == "PENDING")
        self.cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")

    def trainers(self) -> list[int]:
        """Return the training processes at work in this workspace."""
        return list(processes_with("python -m opproof train", self.folder))

    def assert_nothing_is_left(self) -> None:
        """Fail for an orphan, a temporary file, a lock or a job that goes on."""
        wait_until(lambda: not list(processes_with("opproof", self.folder)))
        assert not [path for path in self.files() if path.endswith(".tmp")]
        assert not list((self.folder / ".snakemake" / "locks").glob("*"))
        assert not {"PENDING", "RUNNING"} & set(self.jobs().values())

    def results(self) -> dict[str, Any]:
        """Return what two runs of one configuration must have in common."""
        return self.read("summary.json")["results"]


@dataclass
class Run:
    """A run in the background."""

    workspace: SlurmWorkspace
    process: "subprocess.Popen[str]"

    def printed(self) -> str:
        """Return what it has printed so far."""
        return (self.workspace.folder / "printed").read_text()

    def wait(self) -> int:
        """Wait for its end and return its exit status."""
        status = self.process.wait()
        self.workspace.ended = time.monotonic()
        return status

    def kill(self, signal: str) -> None:
        """Send a signal to Snakemake itself; the process here is what has entered the cluster."""
        here = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in here.read_text().split():
            subprocess.run(["kill", f"-{signal}", pid], check=False)


def wait_until(done: Callable[[], object]) -> None:
    """Wait for something; the suite's timeout bounds the wait."""
    while not done():
        time.sleep(0.2)


@pytest.fixture(scope="session", autouse=True)
def possible() -> None:
    """Skip, loudly, what can't be run here; fail where OPPROOF_CLUSTER=required asks for it."""
    fault = slurm_cluster.missing()
    if fault is None and not SLURM_PYTHON.exists():
        fault = f"no {SLURM_PYTHON}: `make test` makes it"
    if fault:
        needs.skip_or_fail(
            f"no real SLURM can be started here ({fault}): its faults are NOT tested",
            "OPPROOF_CLUSTER",
        )


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, mnist_folder: Path) -> Workspace:
    """A clone in which all before training is done, without SLURM."""

    def make(folder: Path) -> None:
        workspace = clone(folder, mnist_folder)
        # A checkpoint after each stretch, so that tests need not wait eight seconds for one.
        trainer = folder / "workflow" / "opproof" / "train" / "run.py"
        often = trainer.read_text().replace("_INTERVAL = 8.0", "_INTERVAL = 0.0")
        assert often != trainer.read_text()
        trainer.write_text(often)
        workspace.configure(**ON_CPU)
        run = workspace.snakemake("--until", "verify")
        assert run.returncode == 0, run.stdout

    return Workspace(once(tmp_path_factory, "prepared", make), mnist_folder)


@pytest.fixture(scope="session")
def undisturbed(
    prepared: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, Any]]:
    """Return the results of a configuration, run once without SLURM and without a fault."""

    def results(**config: Any) -> dict[str, Any]:
        def make(folder: Path) -> None:
            shutil.copytree(prepared.folder, folder)
            workspace = Workspace(folder, prepared.mnist)
            workspace.configure(**ON_CPU, **config)
            run = workspace.snakemake()
            assert run.returncode == 0, run.stdout

        name = f"undisturbed-{artifact.json_digest(config)[:12]}"
        return Workspace(once(tmp_path_factory, name, make), prepared.mnist).read("summary.json")[
            "results"
        ]

    return results


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that `make` has filled: one for all processes that run tests at once."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            make(folder.with_name(f"{name}.part"))
            folder.with_name(f"{name}.part").rename(folder)
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A SLURM with accounting."""
    with Cluster() as running:
        yield running


@pytest.fixture
def workspace(
    prepared: Workspace,
    cluster: Cluster,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> Iterator[SlurmWorkspace]:
    """A clone on the cluster in which only training is left to do."""
    shutil.copytree(prepared.folder, tmp_path / "clone")
    workspace = SlurmWorkspace(tmp_path / "clone", prepared.mnist, cluster)
    yield workspace
    if workspace.disturbed and workspace.ended:
        record_property("seconds from fault to end", round(workspace.ended - workspace.disturbed))
