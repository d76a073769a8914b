"""`opproof tensorboard` on runs as training leaves them: a block's record and its arrays."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from opproof import __main__, artifact, config, events, tensorboard
from opproof.settings import Settings

pytestmark = pytest.mark.timeout(120)  # a server that nothing ends would run for ever

LOSS = np.array([2.25, 0.1, 0.0625], np.float32)
ACCURACY = np.array([97.5, 98.25])
RUNS = ("torch/seed-0", "torch/seed-1", "torch/seed-2", "python/seed-0")
SHOWN = {run: ["Accuracy/Test", "Loss/Train"] for run in RUNS}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings whose runs 0 to 2 of torch and 0 of python are trained, in tmp_path."""
    monkeypatch.chdir(tmp_path)
    settings = config.resolve({"backends": ["torch", "python"], "seeds": {"count": 3}})
    settings.freeze()
    trained("torch", 0, {0: LOSS, 1: LOSS + 1})
    trained("torch", 1, {2: LOSS + 2})
    trained("python", 0, {0: LOSS + 3})
    return settings


def trained(backend: str, block: int, losses: dict[int, np.ndarray]) -> None:
    folder = Path("results/train", backend, str(block))
    runs = []
    for seed, loss in losses.items():
        file = f"seed-{seed}.npz"
        digest = artifact.write_arrays(folder / file, {"loss": loss, "accuracy": ACCURACY})
        runs.append({"seed": seed, "file": file, "sha256": digest, "failure": None})
    artifact.write_json(folder / "block.json", {"backend": backend, "runs": runs})


def test_only_what_is_missing_is_written(settings: Settings) -> None:
    there = events.folder(settings, "torch", 1)
    digest = artifact.file_digest(Path("results/train/torch/0/seed-1.npz"))
    events.write(there, digest, LOSS + 1, ACCURACY)
    before = event_file(there)
    assert tensorboard.write_missing(settings) == 3
    assert event_file(there) == before
    assert losses(settings, "torch", 0) == LOSS.tolist()
    assert losses(settings, "torch", 2) == (LOSS + 2).tolist()
    assert losses(settings, "python", 0) == (LOSS + 3).tolist()
    assert tensorboard.write_missing(settings) == 0


def test_a_run_that_was_trained_anew_is_shown_anew(settings: Settings) -> None:
    tensorboard.write_missing(settings)
    trained("torch", 1, {2: LOSS * 2})  # with other settings, and too many seeds for training
    tensorboard.write_missing(settings)
    assert losses(settings, "torch", 2) == (LOSS * 2).tolist()


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
    with running(settings) as (process, url):
        while {run: sorted(tags) for run, tags in ask(f"{url}/tags").items()} != SHOWN:
            assert process.poll() is None  # it reads the files in its own time
        points = ask(f"{url}/scalars?run=torch%2Fseed-1&tag=Loss%2FTrain")
        assert [step for _, step, _ in points] == [1, 2, 3]
        assert [value for _, _, value in points] == (LOSS + 1).tolist()
        os.kill(-process.pid if whole_group else process.pid, end)
        process.wait()
        assert ends(process.pid), "it left a process behind"


@contextmanager
def running(settings: Settings) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `opproof tensorboard` in a session of its own; give it and the address of its scalars."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    command = [sys.executable, "-m", "opproof", "tensorboard", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--config", str(settings.frozen_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout
    try:
        assert process.stdout.readline() == "4 event files written; serving results/tensorboard\n"
        yield process, f"http://127.0.0.1:{port}/data/plugin/scalars"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ask(url: str) -> Any:
    """Return what the server answers, as soon as it does."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        time.sleep(0.05)
        try:
            with direct.open(url) as answer:
                return json.load(answer)
        except urllib.error.URLError as error:
            assert isinstance(error.reason, ConnectionRefusedError), error


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


def event_file(folder: Path) -> tuple[str, int]:
    (file,) = folder.glob("events.*")
    return file.name, file.stat().st_mtime_ns


def losses(settings: Settings, backend: str, seed: int) -> list[float]:
    accumulator = EventAccumulator(str(events.folder(settings, backend, seed)))
    accumulator.Reload()
    return [event.value for event in accumulator.Scalars("Loss/Train")]
