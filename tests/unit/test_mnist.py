import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from opproof import mnist
from opproof.errors import UserError
from opproof.mnist import IdxFile

CONTENT = bytes.fromhex("00000803 00000002 00000002 00000003") + bytes(range(12))
FILE = IdxFile(
    name="tiny-images-idx3-ubyte",
    shape=(2, 2, 3),
    md5=hashlib.md5(CONTENT).hexdigest(),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)


@pytest.mark.parametrize(
    ("file", "header", "size"),
    [
        (FILE, "00000803 00000002 00000002 00000003", 28),
        (mnist.TRAIN_IMAGES, "00000803 0000ea60 0000001c 0000001c", 47_040_016),
        (mnist.TRAIN_LABELS, "00000801 0000ea60", 60_008),
        (mnist.TEST_IMAGES, "00000803 00002710 0000001c 0000001c", 7_840_016),
        (mnist.TEST_LABELS, "00000801 00002710", 10_008),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_header_and_size(file: IdxFile, header: str, size: int) -> None:
    assert file.header == bytes.fromhex(header)
    assert file.size == size


@pytest.mark.parametrize(
    ("file", "content", "fault"),
    [
        pytest.param(FILE, CONTENT, None, id="right"),
        pytest.param(FILE, b"", "0 bytes, not 28", id="empty"),
        pytest.param(FILE, CONTENT[:-1], "27 bytes, not 28", id="short"),
        pytest.param(FILE, CONTENT + b"\0", "29 bytes, not 28", id="long"),
        pytest.param(FILE, b"\1" + CONTENT[1:], f"MD5 is not {FILE.md5}", id="header"),
        pytest.param(FILE, CONTENT[:-1] + b"\0", f"MD5 is not {FILE.md5}", id="last byte"),
        pytest.param(
            dataclasses.replace(FILE, sha256="0" * 64),
            CONTENT,
            f"SHA-256 is not {'0' * 64}",
            id="SHA-256 counts too",
        ),
    ],
)
def test_fault(file: IdxFile, content: bytes, fault: str | None) -> None:
    assert file.fault(content) == fault


def test_read(tmp_path: Path) -> None:
    (tmp_path / FILE.name).write_bytes(CONTENT)
    array = mnist.read(tmp_path, FILE)
    assert array.dtype == np.uint8
    assert array.flags.writeable
    np.testing.assert_array_equal(array, np.arange(12).reshape(2, 2, 3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (CONTENT[:-1], "not the official file: 27 bytes, not 28; delete it and run again"),
        (CONTENT[:-1] + b"\0", f"not the official file: MD5 is not {FILE.md5}"),
    ],
    ids=["missing", "short", "wrong byte"],
)
def test_read_refuses(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / FILE.name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        mnist.read(tmp_path, FILE)
    assert str(raised.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("file", mnist.FILES, ids=lambda file: file.name)
def test_official_file(mnist_folder: Path, file: IdxFile) -> None:
    assert file.fault((mnist_folder / file.name).read_bytes()) is None
    array = mnist.read(mnist_folder, file)
    assert array.shape == file.shape


def test_official_pixels_and_labels(mnist_folder: Path) -> None:
    images = mnist.read(mnist_folder, mnist.TRAIN_IMAGES)
    labels = mnist.read(mnist_folder, mnist.TRAIN_LABELS)
    assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert (images.min(), images.max()) == (0, 255)
    assert images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)  # the mean that everyone quotes


@pytest.mark.parametrize(
    ("batch_size", "steps"), [(64, 938), (60_000, 1), (59_999, 2), (1, 60_000), (100, 600)]
)
def test_steps_per_epoch(batch_size: int, steps: int) -> None:
    assert mnist.steps_per_epoch(batch_size) == steps
