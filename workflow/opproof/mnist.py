"""The four MNIST files: their names, their official digests, and how they are read."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from opproof.errors import UserError


@dataclass(frozen=True)
class IdxFile:
    """One file in IDX format (big-endian header of 4-byte integers, then bytes)."""

    name: str
    shape: tuple[int, ...]
    md5: str
    sha256: str

    @property
    def header(self) -> bytes:
        """The header of the format: magic number 0x0800 + dimensions, then each dimension."""
        words = (0x0800 + len(self.shape), *self.shape)
        return b"".join(word.to_bytes(4, "big") for word in words)

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return len(self.header) + int(np.prod(self.shape))

    def fault(self, content: bytes) -> str | None:
        """Say what is wrong with `content`, or None if it is the official file."""
        if len(content) != self.size:
            return f"{len(content):,} bytes, not {self.size:,}"
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != self.md5:
            return f"MD5 is not {self.md5}"
        if hashlib.sha256(content).hexdigest() != self.sha256:
            return f"SHA-256 is not {self.sha256}"
        return None


# MD5: as published with the data set and used by torchvision; SHA-256: of the same bytes.
TRAIN_IMAGES = IdxFile(
    name="train-images-idx3-ubyte",
    shape=(60000, 28, 28),
    md5="6bbc9ace898e44ae57da46a324031adb",
    sha256="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
)
TRAIN_LABELS = IdxFile(
    name="train-labels-idx1-ubyte",
    shape=(60000,),
    md5="a25bea736e30d166cdddb491f175f624",
    sha256="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
)
TEST_IMAGES = IdxFile(
    name="t10k-images-idx3-ubyte",
    shape=(10000, 28, 28),
    md5="2646ac647ad5339dbf082846283269ea",
    sha256="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
)
TEST_LABELS = IdxFile(
    name="t10k-labels-idx1-ubyte",
    shape=(10000,),
    md5="27ae3e4e09519cfbb04c329615203637",
    sha256="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


def steps_per_epoch(batch_size: int) -> int:
    """Return how many batches hold all training images; the last one may be smaller."""
    return -(-TRAIN_LABELS.shape[0] // batch_size)


def read(folder: Path, file: IdxFile) -> np.ndarray:
    """Read one file as uint8 of `file.shape`. Raises UserError if it is not the official one."""
    path = folder / file.name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    fault = file.fault(content)
    if fault:
        raise UserError(f"{path}: not the official file: {fault}; delete it and run again")
    return np.frombuffer(content, np.uint8, offset=len(file.header)).reshape(file.shape).copy()
