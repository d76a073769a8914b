"""What a run of many costs, where training takes no time: planned, run, summarised, and again.

    python -m tests.scale --runs 10000 --seeds-per-job 50           # on this machine
    python -m tests.scale --runs 10000 --seeds-per-job 50 --slurm   # on a SLURM of its own, as root

Everything else is real: jobs, their files and their sizes, Snakemake, the summary, SLURM.
"""

import argparse
import contextlib
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.cluster.layer import SLURM_PYTHON
from tests.cluster.slurm_cluster import Cluster
from tests.pipeline.conftest import REPOSITORY, Workspace, clone

BACKENDS = ("torch", "python", "cpp", "fused", "pooled")

_MB = 1e6

# Of the default training: 37 kB of losses and 20 kB of predictions a run.
_TRAINING = {"epochs": 10, "batch_size": 64}
_AT_ONCE = '''

def _at_once(self, runs, progress):
    """Yield what training would leave, as large as that."""
    epochs, steps = self.training.epochs, -(-60_000 // self.training.batch_size)
    for run in runs:
        random = np.random.default_rng(run.seed)
        arrays = {
            "loss": random.random(epochs * steps, dtype=np.float32),
            "accuracy": random.uniform(98.0, 99.0, epochs),
            "first_predictions": random.integers(0, 10, 10_000, dtype=np.uint8),
            "predictions": random.integers(0, 10, 10_000, dtype=np.uint8),
        }
        per_epoch = {"epoch_seconds": [1.0] * epochs, "epoch_peak_memory_bytes": [1] * epochs}
        yield run, RunRecord(None, arrays, per_epoch)


Trainer.train = _at_once
'''

# Put first on the PATH: writes down when squeue is called, and by which arguments.
_COUNTING = """\
#!/bin/sh
echo "$(date +%s.%N) $*" >> "{calls}"
exec "{squeue}" "$@"
"""


@dataclass
class Cost:
    """Of a process: seconds of wall and CPU time, and its peak memory in bytes."""

    wall: float
    cpu: float
    memory: float

    def __str__(self) -> str:
        return f"{self.wall:.1f} s, CPU {self.cpu:.1f} s, {self.memory / _MB:.0f} MB"


class Scale:
    """A clone with so many `runs` to train, on `cluster` or on this machine's cores."""

    def __init__(self, folder: Path, runs: int, per_job: int, cluster: Cluster | None) -> None:
        self.workspace = _workspace(folder)
        self.workspace.configure(
            backends=list(BACKENDS),
            seeds={"count": runs // len(BACKENDS)},
            seeds_per_job=per_job,
            train=_TRAINING,
            device="cpu",
        )
        self._cluster = cluster
        self._calls = folder / "squeue-calls"

    def plan(self, *options: str) -> Cost:
        """Plan all jobs."""
        start = time.monotonic()
        process = self._start("--dry-run", "--quiet", *(options or ["all"]), into=os.devnull)
        _, status, used = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"planning has failed in {self.workspace.folder}")
        cpu = used.ru_utime + used.ru_stime
        return Cost(time.monotonic() - start, cpu, used.ru_maxrss * 1024)

    def run(self) -> Iterator[tuple[str, str]]:
        """Run the pipeline; yield what it has cost, by name."""
        printed = self.workspace.folder / "printed"
        self._calls.unlink(missing_ok=True)
        start = time.monotonic()
        process = self._start(into=printed)
        memory = list(_watch(process, printed, self._cluster is not None))
        if process.wait():
            sys.exit(f"the run has failed: {printed}")
        yield "run", f"{time.monotonic() - start:.0f} s"
        if memory:
            yield "controller, peak", f"{max(peak for *_, peak in memory) / _MB:.0f} MB"
            yield "controller, by training done", ", ".join(_quarters(memory))
        if self._cluster:
            yield "squeue", self._squeue()

    def left(self) -> Iterator[tuple[str, str]]:
        """Yield what the run's last jobs have cost, and the sizes of what it has left."""
        results = self.workspace.folder / "results"
        for job in ("summary", "check"):
            with (results / "benchmarks" / f"{job}.tsv").open() as file:
                [row] = csv.DictReader(file, delimiter="\t")
            memory = float(row["max_rss"]) * 2**20
            yield job, str(Cost(float(row["s"]), float(row["cpu_time"]), memory))
        for name in ("summary.json", "summary.md", "report.html"):
            yield name, f"{(results / name).stat().st_size / _MB:.2f} MB"
        files = [path for path in results.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        yield "results", f"{len(files):,} files, {size / _MB:,.0f} MB"

    def _start(self, *options: str, into: os.PathLike[str] | str) -> "subprocess.Popen[bytes]":
        python = SLURM_PYTHON if self._cluster else sys.executable
        how = ("--profile=slurm",) if self._cluster else ("--cores=2",)
        command = [str(python), "-m", "snakemake", *how, *options]
        environment = dict(self.workspace.environment())
        if self._cluster:
            command = self._cluster.inside(*command, folder=self.workspace.folder)
            folders = [self._counting(), SLURM_PYTHON.parent, Path(sys.executable).parent]
            environment["PATH"] = os.pathsep.join([*map(str, folders), environment["PATH"]])
        with Path(into).open("wb") as output:
            return subprocess.Popen(
                command,
                cwd=self.workspace.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def _counting(self) -> Path:
        folder = self.workspace.folder / "bin"
        folder.mkdir(exist_ok=True)
        script = folder / "squeue"
        script.write_text(_COUNTING.format(calls=self._calls, squeue=shutil.which("squeue")))
        script.chmod(0o755)
        return folder

    def _squeue(self) -> str:
        calls = [line.partition(" ") for line in self._calls.read_text().splitlines()]
        times = sorted(float(when) for when, _, _ in calls)
        shortest = min((after - before for before, after in pairwise(times)), default=0.0)
        return f"{len(calls)} calls, at least {shortest:.1f} s apart"


def _workspace(folder: Path) -> Workspace:
    data = [sys.executable, "-m", "opproof", "data"]
    subprocess.run(data, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    workspace = clone(folder, REPOSITORY / "resources" / "mnist")
    trainer = folder / "workflow" / "opproof" / "train" / "run.py"
    trainer.write_text(trainer.read_text() + _AT_ONCE)
    return workspace


def _watch(
    process: "subprocess.Popen[bytes]", printed: Path, entered: bool
) -> Iterator[tuple[float, float, float]]:
    """Yield each second the share of training that is done, and the controller's memory and peak.

    Where a cluster was `entered`, the process is what has entered it, the controller its child.
    """
    while process.poll() is None:
        time.sleep(1)
        with contextlib.suppress(OSError, IndexError, KeyError):  # not begun, or just ended
            pid = process.pid
            if entered:
                pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            status = dict(line.split(":", 1) for line in lines)
            now, peak = (1024.0 * int(status[key].split()[0]) for key in ("VmRSS", "VmHWM"))
            told = re.findall(r"train (\d+)/(\d+) done", printed.read_text())
            done, total = map(int, told[-1]) if told else (0, 1)
            yield done / total, now, peak


def _quarters(memory: Sequence[tuple[float, float, float]]) -> Iterator[str]:
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        # The first moment of each, but the very last.
        reached = [now for done, now, _ in memory if done >= share]
        if reached:
            yield f"{share:.0%}: {(reached[-1] if share == 1 else reached[0]) / _MB:.0f} MB"


def main() -> int:
    """Print a row for each figure."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seeds-per-job", type=int, default=50)
    parser.add_argument("--slurm", action="store_true")
    parser.add_argument("--plan", action="store_true", help="only plan")
    parser.add_argument("--folder", type=Path, help="a new one, that stays")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(Cluster()) if args.slurm else None
        folder = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()), "clone")
        scale = Scale(folder.absolute(), args.runs, args.seeds_per_job, cluster)
        for name, figure in _figures(scale, only_plan=args.plan):
            print(f"| {name} | {figure} |", flush=True)
    return 0


def _figures(scale: Scale, only_plan: bool) -> Iterator[tuple[str, str]]:
    yield "load", " ".join(f"{load:.1f}" for load in os.getloadavg())
    yield "plan", str(scale.plan())
    yield "plan, --quiet rules", str(scale.plan("rules", "progress"))
    if not only_plan:
        yield from scale.run()
        yield from scale.left()
        yield "plan, nothing to do", str(scale.plan())
    yield "load", " ".join(f"{load:.1f}" for load in os.getloadavg())


if __name__ == "__main__":
    sys.exit(main())
