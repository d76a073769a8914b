"""`opproof tensorboard` on runs as training leaves them: a block's record and its arrays."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.graph_pb2 import GraphDef

from opproof import __main__, config, tensorboard
from opproof.settings import Settings
from tests.unit import trained

pytestmark = pytest.mark.timeout(120)  # a server that nothing ends would run for ever

LOSS = np.array([2.25, 0.1, 0.0625], np.float32)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings whose runs 0 to 2 of torch and 0 of python are trained, in tmp_path."""
    monkeypatch.chdir(tmp_path)
    settings = config.resolve(
        {"backends": ["torch", "python"], "seeds": {"count": 3}, "seeds_per_job": 2}
    )
    settings.freeze()
    trained.leave(settings, "torch", 0, trained.run(0, LOSS), trained.run(1, LOSS + 1))
    trained.leave(settings, "torch", 1, trained.run(2, LOSS + 2))
    trained.leave(settings, "python", 0, trained.run(0, LOSS + 3))
    return settings


def test_only_what_is_missing_is_written(settings: Settings) -> None:
    assert tensorboard.write_missing(settings) == 6, "four runs, two networks"
    before = event_files()
    assert tensorboard.write_missing(settings) == 0
    (file,) = Path("results/tensorboard/torch/seed-1").glob("events.*")
    file.with_name("content.sha256").unlink()
    assert tensorboard.write_missing(settings) == 1
    assert before - event_files() == {file}
    assert losses("torch/seed-1") == (LOSS + 1).tolist()


def test_a_run_that_was_trained_anew_is_shown_anew(settings: Settings) -> None:
    tensorboard.write_missing(settings)
    trained.leave(settings, "torch", 1, trained.run(2, LOSS * 2))
    assert tensorboard.write_missing(settings) == 1
    assert losses("torch/seed-2") == (LOSS * 2).tolist()


def test_a_block_of_an_earlier_plan_does_not_come_between(settings: Settings) -> None:
    """As one of seed 1 that has stayed since each seed had a job of its own."""
    trained.leave(settings, "torch", 2, trained.run(1, LOSS * 3))
    tensorboard.write_missing(settings)
    assert losses("torch/seed-1") == (LOSS + 1).tolist()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("results/train", "results: no trained run yet; run the pipeline first"),
        (
            "results/train/torch/0/seed-1.npz",
            "seed-1.npz: missing; run the pipeline or its stage first",
        ),
    ],
)
def test_faults(
    settings: Settings, capsys: pytest.CaptureFixture[str], spoil: str, message: str
) -> None:
    Path(spoil).rename("elsewhere")
    assert __main__.main(["tensorboard", "--config", str(settings.frozen_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("opproof tensorboard: ")
    assert error.endswith(f"{message}\n")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("end", "whole_group"),
    [(signal.SIGINT, True), (signal.SIGTERM, False)],
    ids=["Ctrl-C", "kill"],
)
def test_serves_until_it_is_ended(
    settings: Settings, end: signal.Signals, whole_group: bool
) -> None:
    with serving(settings, Path.cwd()) as server:
        assert server.printed == ["6 event files written; serving results/tensorboard"]
        server.ask("runs")
        os.kill(-server.pid if whole_group else server.pid, end)
        assert ends(server.pid), "it left a process behind"


# --- What a server shows

STEPS = 1500  # TensorBoard's own limit is 1,000
OPERATORS = """
import torch
from torch.nn import functional as F

@torch.library.custom_op("own::gelu", mutates_args=())
def gelu(x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x)

@gelu.register_fake
def _(x):
    return torch.empty_like(x)

def by_value(x):
    return F.gelu(x) if x.sum() > 0 else x
"""
GPU_SAMPLES = [
    {"seconds": 1, "utilisation_percent": 50.0, "memory_bytes": 1000 * trained.MIB},
    {"seconds": 2, "utilisation_percent": 97.5, "memory_bytes": None},
]
IN_ORDER = [
    *["by-value/seed-00"],
    *["own/network", "own/seed-00"],
    *["python/network", "python/seed-02", "python/seed-10"],
    *["torch/job-0", "torch/network", *(f"torch/seed-{seed:02}" for seed in range(11))],
]


OF_A_RUN = ["Accuracy/Test", "Loss/Epoch", "Loss/Train", "Memory/Process"]
SHOWN = {
    **{run: OF_A_RUN for run in IN_ORDER if "/seed-" in run},
    "own/seed-00": ["Loss/Train"],  # it has failed in its first epoch
    "torch/job-0": ["GPU/Memory", "GPU/Utilisation"],
}


@dataclass
class Server:
    """A server at work: its process, which leads a session, and what it printed before."""

    pid: int
    port: int
    printed: list[str]

    def ask(self, path: str, body: Any = None, **query: str) -> Any:
        """Return the JSON that the server answers, to `body` if there is one."""
        return json.loads(self.answer(path, body, **query))

    def answer(self, path: str, body: Any = None, **query: str) -> str:
        """Return what the server answers, as soon as it does."""
        url = f"http://127.0.0.1:{self.port}/data/{path}?{urllib.parse.urlencode(query)}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            try:
                with direct.open(request) as answer:
                    return answer.read().decode()
            except urllib.error.URLError as error:
                assert isinstance(error.reason, ConnectionRefusedError), error
                time.sleep(0.05)

    def tags(self) -> dict[str, list[str]]:
        """Return the tags of the runs that have curves."""
        return {run: sorted(tags) for run, tags in self.ask("plugin/scalars/tags").items()}

    def curve(self, run: str, tag: str) -> list[list[Any]]:
        """Return wall time, step and value of each point of a curve."""
        return self.ask("plugin/scalars/scalars", run=run, tag=tag)


Runs = dict[str, tuple[dict[str, Any], np.ndarray]]


@pytest.fixture(scope="module")
def runs() -> Runs:
    """Return entry and losses of each run, by its name."""
    random = np.random.default_rng(0)

    def run(seed: int, *accuracy: float) -> tuple[dict[str, Any], np.ndarray]:
        return trained.run(seed, random.random(STEPS, np.float32), accuracy)

    failed = trained.run(0, np.array([2.5, np.nan], np.float32), (), "the loss became nan")
    return {
        "by-value/seed-00": run(0, 91.5),
        "own/seed-00": failed,
        "python/seed-02": run(2, 92.5),
        "python/seed-10": run(10, 93.5),
        **{f"torch/seed-{seed:02}": run(seed, 90 + seed / 8, 94.5) for seed in range(11)},
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, runs: Runs) -> Iterator[Server]:
    """Serve the runs of four backends; the first job of torch has had a GPU."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "own.py").write_text(OPERATORS)
    own = [{"name": "own", "op": "own:gelu"}, {"name": "by-value", "op": "own:by_value"}]
    settings = config.resolve(
        {
            "output": str(folder / "results"),
            "backends": ["torch", "python", *own],
            "seeds": {"count": 11},
            "seeds_per_job": 6,
        }
    )
    settings.freeze()
    for backend in settings.backends:
        for number, seeds in enumerate(settings.blocks()):
            names = [f"{backend.name}/seed-{seed:02}" for seed in seeds]
            samples = GPU_SAMPLES if (backend.name, number) == ("torch", 0) else []
            of_block = [runs[name] for name in names if name in runs]
            trained.leave(settings, backend.name, number, *of_block, gpu_samples=samples)
    with serving(settings, folder) as server:
        until = time.monotonic() + 60  # it reads the files in its own time
        while (server.ask("runs"), server.tags()) != (IN_ORDER, SHOWN):
            time.sleep(0.1)
            if time.monotonic() > until:
                break
        yield server


def test_runs_sort_by_backend_and_seed(server: Server) -> None:
    assert server.ask("runs") == IN_ORDER, "as SCALARS and GRAPHS show them"
    assert sorted(IN_ORDER) == IN_ORDER, "as TIME SERIES and HPARAMS sort them"


def test_a_gpu_is_shown_where_there_was_one(server: Server) -> None:
    assert server.tags() == SHOWN
    start = datetime.fromisoformat(trained.STARTED).timestamp()
    utilisation = [[start + 1, 1, 50.0], [start + 2, 2, 97.5]]
    assert server.curve("torch/job-0", "GPU/Utilisation") == utilisation
    assert server.curve("torch/job-0", "GPU/Memory") == [[start + 1, 1, 1000.0]]


def test_every_value_of_every_run_is_shown(server: Server, runs: Runs) -> None:
    for run, (entry, loss) in runs.items():
        memory = entry["measurements"]["epoch_peak_memory_bytes"]
        curves = {
            "Loss/Train": loss,
            "Loss/Epoch": entry["average_loss"],
            "Accuracy/Test": entry["accuracy"],
            "Memory/Process": [held / trained.MIB for held in memory],
        }
        for tag in SHOWN[run]:
            points = server.curve(run, tag)
            assert [step for _, step, _ in points] == [*range(1, len(curves[tag]) + 1)]
            values = np.array([value for _, _, value in points], np.float32)
            np.testing.assert_array_equal(values, np.array(curves[tag], np.float32))


def test_curves_say_their_unit(server: Server) -> None:
    tags = server.ask("plugin/scalars/tags")
    for run, tag, unit in (
        ("torch/seed-00", "Accuracy/Test", "per cent"),
        ("torch/seed-00", "Memory/Process", "MiB"),
        ("torch/job-0", "GPU/Utilisation", "per cent"),
        ("torch/job-0", "GPU/Memory", "MiB"),
    ):
        assert unit in tags[run][tag]["description"]


def test_hparams_compare_the_runs(server: Server, runs: Runs) -> None:
    experiment = server.ask("plugin/hparams/experiment", {})
    names = [entry["name"] for entry in experiment["hparamInfos"]]
    others = ["batch_size", "engine", "epochs", "learning_rate", "precision"]
    assert names == ["backend", "seed", *others], "what differs comes first"
    assert sorted(experiment["hparamInfos"][0]["domainDiscrete"]) == [
        *["by-value", "own", "python", "torch"]
    ]
    metrics = [entry["name"]["tag"] for entry in experiment["metricInfos"]]
    assert metrics == OF_A_RUN

    every_status = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    wanted = {"startIndex": 0, "sliceSize": 100, "allowedStatuses": every_status}
    rows = server.ask("plugin/hparams/session_groups", wanted)["sessionGroups"]
    assert [row["name"] for row in rows] == [*runs]
    for row, (name, (entry, _)) in zip(rows, runs.items(), strict=True):
        assert row["hparams"] == {
            "backend": name.partition("/")[0],
            "seed": entry["seed"],
            "engine": "graph",
            "precision": "fp32",
            "epochs": 10,
            "batch_size": 64,
            "learning_rate": 0.003,
        }
        (session,) = row["sessions"]
        assert session["name"] == name
        assert session["status"] == f"STATUS_{'FAILURE' if entry['failure'] else 'SUCCESS'}"
        found = {metric["name"]["tag"]: metric["value"] for metric in session["metricValues"]}
        if entry["failure"]:
            assert {tag: str(value).lower() for tag, value in found.items()} == {
                "Loss/Train": "nan"
            }
        else:
            assert found["Accuracy/Test"] == entry["accuracy"][-1]
            assert found["Loss/Epoch"] == entry["average_loss"][-1]


def test_graphs_show_the_operators(server: Server) -> None:
    drawn = server.ask("plugin/graphs/info")
    assert {run for run, shown in drawn.items() if shown["run_graph"]} == {
        *["torch/network", "python/network", "own/network"]
    }
    for run, operation, times in (
        ("torch/network", "aten::gelu", 6),
        ("python/network", "aten::erf", 6),
        ("own/network", "own::gelu", 6),
        ("own/network", "aten::gelu", 0),
    ):
        text = server.answer("plugin/graphs/graph", run=run)
        graph = text_format.Parse(text, GraphDef())
        assert [node.op for node in graph.node].count(operation) == times


def test_a_network_that_cannot_be_drawn_hides_no_curve(server: Server) -> None:
    undrawn, written = server.printed
    assert undrawn.startswith("by-value: its network is not drawn: ")
    assert written.startswith("19 event files written; ")


@contextmanager
def serving(settings: Settings, folder: Path) -> Iterator[Server]:
    """Run `opproof tensorboard` in `folder`, in a session of its own."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    command = [sys.executable, "-m", "opproof", "tensorboard", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--config", str(settings.frozen_path)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=folder
    )
    assert process.stdout
    try:
        printed = []
        while not printed or " event files written; serving " not in printed[-1]:
            printed.append(process.stdout.readline().rstrip())
            assert printed[-1], printed
        yield Server(process.pid, port, printed)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ends(session: int) -> bool:
    """Wait for the processes of a session to end; say whether they did."""
    for _ in range(200):
        if not any(belongs(process, session) for process in Path("/proc").glob("[0-9]*")):
            return True
        time.sleep(0.05)
    return False


def belongs(process: Path, session: int) -> bool:
    """Say whether a process, a folder of /proc, lives and belongs to the session."""
    try:
        state, _, _, its_session = (process / "stat").read_text().rpartition(")")[2].split()[:4]
    except OSError:  # it has just ended
        return False
    return int(its_session) == session and state != "Z"


def event_files() -> set[Path]:
    return {*Path("results/tensorboard").rglob("events.*")}


def losses(run: str) -> list[float]:
    accumulator = EventAccumulator(f"results/tensorboard/{run}")
    accumulator.Reload()
    return [event.value for event in accumulator.Scalars("Loss/Train")]
