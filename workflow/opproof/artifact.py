"""Files that are written whole or not at all, each with a digest that is checked on reading."""

import glob
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from opproof.errors import UserError

_DIGEST_BYTES = 32
_OTHER_DIGEST = "does not have the digest recorded for it"

# What `temporary` returns: the name, the writer's host and process, chance.
_TEMPORARY = re.compile(r"\..+\..+-(?P<pid>\d+)-[0-9a-f]{8}\.tmp")

_DAY = 24 * 3600.0  # seconds


def write_bytes(path: Path, content: bytes, previous: Path | None = None) -> str:
    """Write `content` under a temporary name, then rename; return its SHA-256 in hex.

    What was at `path` before is kept as `previous`, if that is given.
    Raises UserError where the file can't be written (disk full, no permission, ...).
    """
    try:
        try:
            _replace(path, content, previous)
        except FileNotFoundError:  # `sweep` has taken the temporary file for a killed writer's
            _replace(path, content, previous)
    except OSError as error:
        raise UserError(_cannot_write(path, len(content), error)) from error
    return hashlib.sha256(content).hexdigest()


def temporary(path: Path) -> Path:
    """Return a name beside `path` to write it under; no two writers share one."""
    writer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.name}.{writer}.tmp")


@contextmanager
def writing(path: Path, previous: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file for what does not fit into memory, renamed to `path` at the end of the block.

    `previous` as in write_bytes. Nothing is left of it if the block raises.
    Raises OSError where the file can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    written = temporary(path)
    try:
        with written.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if previous:
            with suppress(FileNotFoundError):
                path.replace(previous)
        written.replace(path)
        _sync_folder(path.parent)
    finally:
        written.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Remove the temporary files of `path`: of a file, or of all that is below a folder.

    For who knows that their writers are gone, or have no right to write; one that is at work all
    the same writes its file anew.
    """
    if path.is_dir():
        _remove(_temporaries(_below(path)))
    else:
        _remove(_temporaries(path.parent.glob(f".{glob.escape(path.name)}.*")))


def sweep_shared(folder: Path) -> None:
    """Remove temporary files in a folder to which others, too, may write.

    Those are removed whose writer was a process of this host and has ended, and those that are
    older than a day.
    """
    _remove(entry for entry in _temporaries(folder.glob(".*.tmp")) if _is_abandoned(entry))


def read_bytes(path: Path, digest: str) -> bytes:
    """Return what write_bytes wrote. Raises UserError if missing or not of that SHA-256."""
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(_damaged(path, _OTHER_DIGEST))
    return content


def check_digest(path: Path, digest: str) -> None:
    """Raise UserError if a file of any size is missing or not of that SHA-256."""
    if file_digest(path) != digest:
        raise UserError(_damaged(path, _OTHER_DIGEST))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` with the digest of it as its first key. Raises UserError as write_bytes."""
    text = json.dumps({"digest": json_digest(content), **content}, indent=2, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read what write_json wrote, without the digest. Raises UserError if missing or damaged."""
    try:
        content = json.loads(_read(path))
        digest, found = content.pop("digest"), json_digest(content)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise UserError(_damaged(path, "is not whole")) from error
    if digest != found:
        raise UserError(_damaged(path, "does not have the digest written in it"))
    return content


def json_digest(content: Any) -> str:
    """Return the SHA-256 of `content` as canonical JSON, in hex."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def write_sealed(path: Path, payload: bytes, previous: Path | None = None) -> None:
    """Write `payload` behind its SHA-256; `previous` and UserError as in write_bytes."""
    write_bytes(path, hashlib.sha256(payload).digest() + payload, previous)


def read_sealed(path: Path) -> bytes:
    """Read what write_sealed wrote. Raises UserError if missing or damaged."""
    content = _read(path)
    seal, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != seal:
        raise UserError(_damaged(path, "does not have the digest written in it"))
    return payload


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> str:
    """Write named arrays as .npz; return the file's SHA-256. Raises UserError as write_bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return write_bytes(path, buffer.getvalue())


def read_arrays(path: Path, digest: str) -> dict[str, np.ndarray]:
    """Read what write_arrays wrote. Raises UserError if missing or not of that SHA-256."""
    with np.load(io.BytesIO(read_bytes(path, digest))) as archive:
        return dict(archive)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex. Raises UserError if it can't be read."""
    with _readable(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace(path: Path, content: bytes, previous: Path | None) -> None:
    with writing(path, previous) as file:
        file.write(content)


def _below(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        yield from (Path(root, name) for name in (*folders, *files))


def _temporaries(entries: Iterable[Path]) -> Iterator[Path]:
    return (entry for entry in entries if _TEMPORARY.fullmatch(entry.name))


def _is_abandoned(entry: Path) -> bool:
    """Tell whether the writer of a temporary file has ended, as far as this host knows."""
    found = _TEMPORARY.fullmatch(entry.name)
    if found and f".{socket.gethostname()}-" in entry.name and not _is_running(int(found["pid"])):
        return True
    try:
        return entry.stat().st_mtime < time.time() - _DAY
    except FileNotFoundError:
        return False


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _remove(entries: Iterable[Path]) -> None:
    """Remove files and folders; what is gone by now, or somebody else's, is passed over."""
    for entry in entries:
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with suppress(OSError):
                entry.unlink()


def _read(path: Path) -> bytes:
    with _readable(path):
        return path.read_bytes()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise UserError where reading raises OSError."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; run the pipeline or its stage first") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def _damaged(path: Path, what: str) -> str:
    return f"{path}: damaged: it {what}; delete it and run the pipeline again"


def _cannot_write(path: Path, size: int, error: OSError) -> str:
    # os.access says no, where Path.exists raises, for what lies below a folder without x for us.
    existing = next(folder for folder in path.absolute().parents if os.access(folder, os.F_OK))
    free = shutil.disk_usage(existing).free
    return f"{path}: cannot be written: {error.strerror} ({size:,} bytes needed, {free:,} free)"


def _sync_folder(folder: Path) -> None:
    """Make a rename last over a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
