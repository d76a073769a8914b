"""Reads what a source offers, never more of it than the file that is wanted can hold."""

import gzip
import io
import zlib
from pathlib import Path

from opproof.data.errors import AbsentError, SourceError


def unpack(content: bytes, limit: int) -> bytes:
    """Return what a .gz holds. Raises SourceError if it is none, or holds more than `limit`."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            return read_up_to(file, limit)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"not a whole gzip file ({error})") from error


def read_file(path: Path, limit: int) -> bytes:
    """Return a file's content. Raises SourceError if it can't be read or exceeds `limit`."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise AbsentError("no file")
        with path.open("rb") as file:
            return read_up_to(file, limit)
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}") from error


def read_up_to(file: io.BufferedIOBase, limit: int) -> bytes:
    """Read all of `file`; more than `limit` bytes never reach the memory."""
    content = file.read(limit + 1)
    if len(content) > limit:
        raise SourceError(f"more than {limit:,} bytes")
    return content
