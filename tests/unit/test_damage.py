"""What is damaged among the files of earlier runs is found, and made again."""

from collections.abc import Callable
from pathlib import Path

import pytest

from opproof import artifact, damage

RECORDS = (
    "build/mine/build.json",
    "verify/mine.json",
    "train/mine/0/block.json",
    "timing/operators.json",
    "timing/training.json",
    "summary.json",
)
BESIDE = {
    "build/mine/mine.so": RECORDS[0],
    "train/mine/0/seed-0.npz": RECORDS[2],
    "train/mine/0/seed-1.npz": RECORDS[2],
    "summary.csv": RECORDS[5],
    "summary.md": RECORDS[5],
    "report.html": RECORDS[5],
}
ALL = {**{record: record for record in RECORDS}, **BESIDE}
ADVICE = "; delete it and run the pipeline again"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """What a run has left, as far as records and what they tell of go."""
    digests = {
        Path(name).name: artifact.write_bytes(tmp_path / name, name.encode() * 9) for name in BESIDE
    }
    runs = [
        {"seed": seed, "file": f"seed-{seed}.npz", "sha256": digests[f"seed-{seed}.npz"]}
        for seed in (0, 1)
    ]
    shown = {name: digests[name] for name in ("summary.csv", "summary.md", "report.html")}
    contents = (
        {"library": "mine", "file": "mine.so", "sha256": digests["mine.so"]},
        {"verdict": "pass"},
        {"runs": runs},
        {"rows": []},
        {"rows": []},
        {"results": {}, "files": shown},
    )
    for name, content in zip(RECORDS, contents, strict=True):
        artifact.write_json(tmp_path / name, content)
    return tmp_path


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def test_what_is_whole_stays(output: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    assert damage.remove(output) == []
    assert before == {path: path.stat().st_mtime_ns for path in output.rglob("*")}


@pytest.mark.parametrize("spoil", [flip_a_bit, cut_short])
@pytest.mark.parametrize(("name", "record"), ALL.items(), ids=ALL)
def test_what_is_damaged_is_made_again(
    output: Path, spoil: Callable[[Path], None], name: str, record: str
) -> None:
    spoil(output / name)
    assert str(damage.fault(output / record)).startswith(f"{output / name}: damaged: it ")
    [line] = damage.remove(output)
    assert line.startswith(f"{output / name}: damaged: it ")
    assert line.endswith("; it is made again")
    assert ADVICE not in line
    assert [other for other in RECORDS if not (output / other).exists()] == [record]
    assert damage.remove(output) == []


@pytest.mark.parametrize(("name", "record"), BESIDE.items(), ids=BESIDE)
def test_what_is_missing_is_made_again(output: Path, name: str, record: str) -> None:
    (output / name).unlink()
    assert damage.remove(output) == [f"{output / name}: missing; it is made again"]
    assert not (output / record).exists()


def test_a_library_that_does_not_compile_lacks_nothing(output: Path) -> None:
    (output / "build/mine/mine.so").unlink()
    record = {"library": "mine", "file": "mine.so", "sha256": None, "error": "a.cpp:3"}
    artifact.write_json(output / RECORDS[0], record)
    assert damage.remove(output) == []


def test_before_the_first_run_there_is_nothing(tmp_path: Path) -> None:
    assert damage.remove(tmp_path / "results") == []
