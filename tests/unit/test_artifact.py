"""Artefacts against killed writers, full disks, damaged files and writers at once."""

import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opproof import artifact
from opproof.errors import UserError

NOT_WHOLE = "damaged: it is not whole; delete it and run the pipeline again"
OTHER_DIGEST = "damaged: it does not have the digest written in it; delete it and run the pipeline"
MISSING = "missing; run the pipeline or its stage first"

CONTENT = {"text": 'é " \\ \n', "numbers": [1, -0.1, 5e-324, 1e9, True, None], "nested": {"z": {}}}
ARRAYS = {
    "loss": np.arange(5, dtype=np.float32) / 3,
    "accuracy": np.array([[1.5, np.nan], [np.inf, -0.0]]),
    "none": np.zeros((0, 3), dtype=np.int64),
}


def write_arrays(path: Path) -> Callable[[Path], Any]:
    digest = artifact.write_arrays(path, ARRAYS)
    return lambda path: artifact.read_arrays(path, digest)


def write_json(path: Path) -> Callable[[Path], Any]:
    artifact.write_json(path, CONTENT)
    return artifact.read_json


def write_sealed(path: Path) -> Callable[[Path], Any]:
    artifact.write_sealed(path, b"payload")
    return artifact.read_sealed


KINDS = {"json": write_json, "sealed": write_sealed, "arrays": write_arrays}
every_kind = pytest.mark.parametrize("write", KINDS.values(), ids=KINDS)


@pytest.mark.parametrize("content", [{}, CONTENT, {"b": 1, "a": 2}])
def test_json_is_read_as_written(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "x.json"
    artifact.write_json(path, content)
    assert repr(artifact.read_json(path)) == repr(content)
    assert list(json.loads(path.read_bytes())) == ["digest", *content]


def test_json_digest_is_of_the_content_not_of_its_order() -> None:
    assert artifact.json_digest({"a": 1, "b": [2]}) == artifact.json_digest({"b": [2], "a": 1})
    assert artifact.json_digest({"a": 1, "b": [2]}) != artifact.json_digest({"a": 1, "b": [3]})


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_has_no_numbers_that_json_lacks(tmp_path: Path, number: float) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(ValueError, match="JSON"):
        artifact.write_json(path, {"loss": number})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(256)) * 5])
def test_sealed_is_read_as_written(tmp_path: Path, payload: bytes) -> None:
    artifact.write_sealed(tmp_path / "x", payload)
    assert artifact.read_sealed(tmp_path / "x") == payload


def test_arrays_are_read_as_written(tmp_path: Path) -> None:
    read = write_arrays(tmp_path / "x.npz")(tmp_path / "x.npz")
    assert list(read) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
        assert read[name].tobytes() == array.tobytes()


def test_equal_arrays_are_equal_files(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz")
    write_arrays(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_file_digest_is_what_writing_returned(tmp_path: Path) -> None:
    digest = artifact.write_bytes(tmp_path / "x", b"abc")
    assert digest == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert artifact.file_digest(tmp_path / "x") == digest


@every_kind
def test_folders_are_made_and_nothing_else_is_left(tmp_path: Path, write: Callable) -> None:
    write(tmp_path / "a" / "b" / "x")
    assert files(tmp_path) == ["a/b/x"]


@every_kind
def test_a_flipped_bit_is_detected_wherever_it_is(tmp_path: Path, write: Callable) -> None:
    path = tmp_path / "x"
    read = write(path)
    whole, content = path.read_bytes(), repr(read(path))
    message = f"{path}: damaged: it .*; delete it and run the pipeline again"
    with path.open("r+b", buffering=0) as file:
        for position, byte in enumerate(whole):
            os.pwrite(file.fileno(), bytes([byte ^ 1 << position % 8]), position)
            try:
                assert repr(read(path)) == content
                assert chr(byte) in "e"  # \u00e9 is \u00E9: other bytes, but equal
            except UserError as error:
                assert re.fullmatch(message, str(error))
            os.pwrite(file.fileno(), bytes([byte]), position)


@every_kind
def test_a_cut_or_grown_file_is_detected(tmp_path: Path, write: Callable) -> None:
    path = tmp_path / "x"
    read = write(path)
    size = path.stat().st_size - path.read_bytes().endswith(b"\n")
    for length in (size + 9, *reversed(range(size))):
        os.truncate(path, length)
        with pytest.raises(UserError, match="damaged"):
            read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", NOT_WHOLE),
        ("{", NOT_WHOLE),
        ('{"a": 1}', NOT_WHOLE),
        ("3", NOT_WHOLE),
        ("null", NOT_WHOLE),
        ('"digest"', NOT_WHOLE),
        (b"\xff\xfe\xff", NOT_WHOLE),
        ('{"digest": null}', OTHER_DIGEST),
        ('{"digest": "0", "a": 1}', OTHER_DIGEST),
        pytest.param("[]", NOT_WHOLE),
        pytest.param('{"digest": "0", "a": NaN}', "damaged: "),
        pytest.param('{"digest": "0", "a": 9e308}', "damaged: "),
        pytest.param("[" * 100_000, "damaged: "),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_json_that_is_no_artefact(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as raised:
        artifact.read_json(path)
    assert str(raised.value).startswith(f"{path}: {message}")


READERS = [
    artifact.read_json,
    artifact.read_sealed,
    artifact.file_digest,
    lambda path: artifact.read_arrays(path, "0"),
]


@pytest.mark.parametrize("read", READERS, ids=["json", "sealed", "digest", "arrays"])
def test_what_cannot_be_read_is_named(tmp_path: Path, read: Callable) -> None:
    (tmp_path / "file").touch()
    for name, reason in {
        "absent": MISSING,
        "absent/x": MISSING,
        ".": "cannot be read: Is a directory",
        "file/x": "cannot be read: Not a directory",
    }.items():
        with pytest.raises(UserError) as raised:
            read(tmp_path / name)
        assert str(raised.value) == f"{tmp_path / name}: {reason}"


def test_a_killed_writer_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    versions = [{"version": version, "text": str(version) * 200_000} for version in range(3)]
    artifact.write_json(path, versions[0])
    moments = random.Random(0)
    killed: set[int] = set()
    for _ in range(300):
        with writer(path, versions) as pid:
            time.sleep(moments.uniform(0, 0.01))
        killed.add(pid)
        assert artifact.read_json(path) in versions
        strays = files(tmp_path)
        strays.remove("x.json")
        assert {int(stray.rpartition("-")[0].rpartition("-")[2]) for stray in strays} <= killed
        if len(strays) >= 10:
            break
    assert len(strays) >= 10, "kills never came while a file was written"


def test_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    versions = [{"version": version, "text": str(version) * 200_000} for version in range(4)]
    artifact.write_json(path, versions[0])
    pids = {fork(lambda version=version: write_often(path, version)) for version in versions}
    while pids:
        assert artifact.read_json(path) in versions
        for pid in list(pids):
            ended, status = os.waitpid(pid, os.WNOHANG)
            assert status == 0
            pids.discard(ended)
    assert artifact.read_json(path) in versions
    assert files(tmp_path) == ["x.json"]


def test_a_file_is_on_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a name could stand, after a crash of the machine, for bytes that never reached it."""
    path = tmp_path / "x"
    synced = []

    def fsync(descriptor: int) -> None:
        what = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((what.is_file() and what.read_bytes(), path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    artifact.write_bytes(path, b"abc")
    assert synced == [(b"abc", False), (False, True)]


def test_what_was_there_before_is_kept(tmp_path: Path) -> None:
    path, previous = tmp_path / "x", tmp_path / "previous"
    for number in range(3):
        artifact.write_sealed(path, bytes([number]), previous)
        assert artifact.read_sealed(path) == bytes([number])
        if number:
            assert artifact.read_sealed(previous) == bytes([number - 1])
    assert files(tmp_path) == ["previous", "x"]


def test_what_was_there_before_stays_where_the_new_cannot_be_written(tmp_path: Path) -> None:
    path, previous = tmp_path / "x", tmp_path / "previous"
    artifact.write_bytes(path, b"1", previous)
    artifact.write_bytes(path, b"2", previous)
    with pytest.raises(UserError), file_size_limit(100_000):
        artifact.write_bytes(path, b"new!" * 50_000, previous)
    assert (path.read_bytes(), previous.read_bytes()) == (b"2", b"1")


def test_a_writer_whose_temporary_file_is_swept_away_writes_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    artifact.write_bytes(path, b"1")
    sync, synced = os.fsync, []

    def fsync(descriptor: int) -> None:
        sync(descriptor)
        synced.append(descriptor)
        if len(synced) == 1:
            artifact.sweep(tmp_path)

    monkeypatch.setattr(os, "fsync", fsync)
    artifact.write_bytes(path, b"2", tmp_path / "previous")
    assert len(synced) == 3
    assert (path.read_bytes(), (tmp_path / "previous").read_bytes()) == (b"2", b"1")
    assert files(tmp_path) == ["previous", "x"]


OF_OTHERS = (
    ".hidden",
    "x.tmp",
    ".x.tmp",
    ".x.json.host-12-0123abc.tmp",
    ".x.json.host-a-01234567.tmp",
)


def test_a_sweep_takes_temporary_files_alone(tmp_path: Path) -> None:
    kept = [tmp_path / "a" / name for name in OF_OTHERS]
    swept = [artifact.temporary(tmp_path / name) for name in ("x", "a/x.json", "a/b/.c-1.npz")]
    for path in (*kept, *swept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    folder = artifact.temporary(tmp_path / "a" / "folder")
    (folder / "c").mkdir(parents=True)
    (folder / "c" / "file").touch()
    artifact.sweep(tmp_path)
    assert files(tmp_path) == sorted(str(path.relative_to(tmp_path)) for path in kept)
    assert not folder.exists()


def test_a_sweep_for_a_file_takes_that_files_alone(tmp_path: Path) -> None:
    names = ("[x].json", "x.json", "[x].json2", "x")
    temporaries = {name: artifact.temporary(tmp_path / name) for name in names}
    for path in temporaries.values():
        path.touch()
    artifact.sweep(tmp_path / "[x].json")
    assert [name for name, path in temporaries.items() if not path.exists()] == ["[x].json"]


def test_a_sweep_of_what_is_not_there(tmp_path: Path) -> None:
    artifact.sweep(tmp_path / "absent")
    artifact.sweep(tmp_path / "absent" / "x")
    artifact.sweep_shared(tmp_path / "absent")
    assert files(tmp_path) == []


def test_a_shared_sweep_leaves_what_may_be_at_work(tmp_path: Path) -> None:
    def left_by(name: str, host: str, pid: int, age: float = 0.0) -> Path:
        path = tmp_path / f".{name}.{host}-{pid}-0123abcd.tmp"
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
        return path

    ended = fork(lambda: None)
    os.waitpid(ended, 0)
    here, day = os.uname().nodename, 24 * 3600
    kept = [
        left_by("alive", here, os.getpid()),
        left_by("of-init", here, 1),
        left_by("elsewhere", "elsewhere", ended),
        left_by("elsewhere-in-the-cluster", f"{here}.other.org", ended),
        left_by("not-old", "elsewhere", ended, day - 60),
    ]
    swept = [
        left_by("ended", here, ended),
        left_by("old", "elsewhere", ended, day + 60),
        left_by("old-and-alive", here, os.getpid(), day + 60),
    ]
    artifact.sweep_shared(tmp_path)
    assert [path for path in swept if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []


FAULTY_DISK = """
import json, subprocess, sys
from pathlib import Path
from opproof import artifact
from opproof.errors import UserError
folder, fault = Path(sys.argv[1]), sys.argv[2]
artifact.write_json(folder / "x.json", {"version": 1})
if fault == "read-only":
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
messages = []
for path in (folder / "x.json", folder / "new.json", folder / "made" / "new.json"):
    try:
        artifact.write_json(path, {"version": 2, "text": "x" * 2_000_000})
        messages.append("")
    except UserError as error:
        messages.append(str(error))
left = sorted(path.name for path in folder.rglob("*") if path.is_file())
print(json.dumps([messages, left, artifact.read_json(folder / "x.json")]))
"""


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("full", "No space left on device"), ("read-only", "Read-only file system")],
)
def test_a_disk_that_takes_nothing(tmp_path: Path, fault: str, reason: str) -> None:
    # In a mount namespace of its own: nobody else sees this disk, and it goes with the process.
    mount = 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$0" -c "$3" "$1" "$2"'
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", tmp_path]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("NOT TESTED: artefacts on a full or read-only disk; needs root, to mount one")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, sys.executable, tmp_path, fault, FAULTY_DISK],
        capture_output=True,
        text=True,
        check=True,
    )
    messages, left, content = json.loads(done.stdout)
    for name, message in zip(("x.json", "new.json", "made/new.json"), messages, strict=True):
        start = re.escape(f"{tmp_path / name}: cannot be written: {reason} (2,000,")
        assert re.fullmatch(rf"{start}\d\d\d bytes needed, [\d,]{{1,9}} free\)", message)
    assert left == ["x.json"]
    assert content == {"version": 1}


def test_a_write_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x"
    artifact.write_bytes(path, b"old")
    message = r"x: cannot be written: File too large \(200,000 byt"
    with pytest.raises(UserError, match=message), file_size_limit(100_000):
        artifact.write_bytes(path, b"new!" * 50_000)
    assert files(tmp_path) == ["x"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file/x", "File exists"),
        ("file/a/x", "Not a directory"),
        ("folder", "Is a directory"),
        ("n" * 250, "File name too long"),
    ],
)
def test_a_path_that_cannot_be(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError) as raised:
        artifact.write_bytes(tmp_path / name, b"abc")
    start = f"{tmp_path / name}: cannot be written: {reason} (3 bytes needed, "
    assert str(raised.value).startswith(start)
    assert files(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        pytest.param(0o555, "x", id="not writable"),
        pytest.param(0o000, "x", id="not searchable"),
        pytest.param(0o000, "a/x", id="below not searchable"),
    ],
)
def test_a_folder_of_somebody_else(outer: Path, mode: int, name: str) -> None:
    folder = outer / "folder"
    (folder / "a").mkdir(parents=True)
    folder.chmod(mode)
    read, written = os.pipe()

    def write() -> None:
        if os.getuid() == 0:  # whom no mode keeps out
            os.setuid(65534)
        try:
            artifact.write_bytes(folder / name, b"abc")
        except UserError as error:
            os.write(written, str(error).encode())

    assert os.waitpid(fork(write), 0)[1] == 0
    os.close(written)
    start = f"{folder / name}: cannot be written: Permission denied (3 bytes needed, "
    assert os.read(read, 10_000).decode().startswith(start)
    os.close(read)
    folder.chmod(0o755)
    assert files(folder) == []


@pytest.fixture
def outer() -> Iterator[Path]:
    """A folder that others may look into, as they may not into tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let this process write no file larger than `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def files(folder: Path) -> list[str]:
    """Return every file below the folder, hidden and temporary ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@contextmanager
def writer(path: Path, versions: list[dict[str, Any]]) -> Iterator[int]:
    """Run a process that writes the versions in turn until it is killed."""

    def write() -> None:
        for version in itertools.cycle(versions):
            artifact.write_json(path, version)

    pid = fork(write)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def write_often(path: Path, version: dict[str, Any]) -> None:
    for _ in range(20):
        artifact.write_json(path, version)


def fork(work: Callable[[], None]) -> int:
    """Do the work in a copy of this process, which ends with status 0 if nothing was raised."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid
