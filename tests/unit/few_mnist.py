"""The first images of MNIST, for tests that train: 320, 5 steps an epoch, and 200 to test on."""

import dataclasses
import hashlib
import sys
from pathlib import Path

import pytest

from opproof import mnist
from opproof.mnist import IdxFile
from opproof.train import run

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLES = {"TRAIN_IMAGES": 320, "TRAIN_LABELS": 320, "TEST_IMAGES": 200, "TEST_LABELS": 200}


@pytest.fixture(scope="session")
def few(mnist_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the four files, each cut off after the first samples."""
    folder = tmp_path_factory.mktemp("few")
    for name, count in SAMPLES.items():
        file = getattr(mnist, name)
        short = dataclasses.replace(file, shape=(count, *file.shape[1:]))
        samples = mnist.read(mnist_folder, file)[:count]
        (folder / file.name).write_bytes(short.header + samples.tobytes())
    return folder


def files_in(folder: Path) -> dict[str, IdxFile]:
    """Return the files of the fixture `few` as if they were the official ones."""
    files = {}
    for name, count in SAMPLES.items():
        file = getattr(mnist, name)
        content = (folder / file.name).read_bytes()
        md5, sha256 = hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()
        files[name] = IdxFile(file.name, (count, *file.shape[1:]), md5, sha256)
    return files


@pytest.fixture
def work(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder whose MNIST has few samples."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    # Processes that tests start find the tests' modules.
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY), prepend=":")
    files = files_in(few)
    for name, file in files.items():
        monkeypatch.setattr(mnist, name, file)
    monkeypatch.setattr(mnist, "FILES", tuple(files.values()))
    monkeypatch.setattr(run, "TRAIN_LABELS", files["TRAIN_LABELS"])
    return tmp_path
