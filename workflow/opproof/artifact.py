"""Files that are written whole or not at all, each with a digest that is checked on reading."""

import hashlib
import io
import json
import os
import secrets
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np

from opproof.errors import UserError

_DIGEST_BYTES = 32


def write_bytes(path: Path, content: bytes) -> str:
    """Write `content` under a temporary name, then rename; return its SHA-256 in hex.

    Raises UserError where the file can't be written (disk full, no permission, ...).
    """
    # Host, process and chance in the name: two writers never share a temporary file.
    temporary = path.with_name(
        f".{path.name}.{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(_cannot_write(path, len(content), error)) from error
    return hashlib.sha256(content).hexdigest()


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


def write_sealed(path: Path, payload: bytes) -> None:
    """Write `payload` behind its SHA-256. Raises UserError as write_bytes."""
    write_bytes(path, hashlib.sha256(payload).digest() + payload)


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
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(_damaged(path, "does not have the digest recorded for it"))
    with np.load(io.BytesIO(content)) as archive:
        return dict(archive)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex. Raises UserError if it can't be read."""
    return hashlib.sha256(_read(path)).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
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
