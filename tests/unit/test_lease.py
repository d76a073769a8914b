"""The right to write: who takes it last has it, and who had it finds out."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from opproof import __main__, artifact, lease
from opproof.errors import UserError

TARGETS = ["verify/a.b.json", "train/torch/0", "state/0f/3"]


@pytest.mark.parametrize("target", TARGETS)
def test_the_newest_has_it(tmp_path: Path, target: str) -> None:
    first = lease.take(tmp_path, tmp_path / target)
    first.check()
    second = lease.take(tmp_path, tmp_path / target)
    second.check()
    with pytest.raises(UserError, match="another attempt has taken over"):
        first.check()
    second.check()


def test_each_place_has_its_own(tmp_path: Path) -> None:
    leases = [lease.take(tmp_path, tmp_path / target) for target in TARGETS]
    assert len({held.file for held in leases}) == len(TARGETS)
    for held in leases:
        assert held.file.is_relative_to(tmp_path / "state" / "leases")
        held.check()


def test_who_has_taken_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "verify" / "torch.json"
    first = lease.take(tmp_path, target)
    code = "import sys; from pathlib import Path; from opproof import lease\n"
    code += "lease.take(Path(sys.argv[1]), Path(sys.argv[2]))"
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path, target], env={**os.environ, "SLURM_JOB_ID": "815"}
    ) as other:
        assert other.wait() == 0
    with pytest.raises(UserError) as raised:
        first.check()
    assert re.fullmatch(
        rf"{target}: another attempt has taken over \(pid {other.pid} on host "
        rf"{os.uname().nodename}, SLURM job 815, since [-\dT:+]+\); this one ends",
        str(raised.value),
    )


@pytest.mark.parametrize("content", [None, "", "{}", '{"digest": "0"}', "another version's"])
def test_what_cannot_be_read_is_lost(tmp_path: Path, content: str | None) -> None:
    held = lease.take(tmp_path, tmp_path / "verify" / "torch.json")
    if content is None:
        held.file.unlink()
    elif content == "another version's":
        artifact.write_json(held.file, {"token": held.attempt.token, "more": 1})
    else:
        held.file.write_text(content)
    with pytest.raises(UserError, match=r"torch\.json: lost the right to write there .* run the"):
        held.check()


def test_taking_it_removes_what_earlier_attempts_left(tmp_path: Path) -> None:
    block = tmp_path / "train" / "torch" / "0"
    record = tmp_path / "verify" / "torch.json"
    left = [artifact.temporary(block / "block.json"), artifact.temporary(record)]
    others = [
        artifact.temporary(tmp_path / "verify" / "torch.json2"),
        artifact.temporary(tmp_path / "train" / "torch" / "1" / "block.json"),
        block / "block.json",
    ]
    for path in (*left, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    lease.take(tmp_path, block)
    lease.take(tmp_path, record)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in others)


def test_a_writer_under_way_finds_that_it_has_lost_it(tmp_path: Path) -> None:
    """It is written down before the sweep, so who is swept away can look who did it."""
    target = tmp_path / "verify" / "torch.json"
    first = lease.take(tmp_path, target)
    under_way = artifact.temporary(target)
    under_way.parent.mkdir(parents=True)
    under_way.touch()
    lease.take(tmp_path, target)
    assert not under_way.exists()
    with pytest.raises(UserError, match="another attempt"):
        first.check()


def test_it_is_a_small_file_with_a_digest(tmp_path: Path) -> None:
    held = lease.take(tmp_path, tmp_path / "train" / "torch" / "0")
    content = json.loads(held.file.read_text())
    assert set(content) == {"digest", "token", "host", "pid", "slurm_job", "since"}
    assert held.file.stat().st_size < 1000


@pytest.mark.parametrize(
    ("command", "work", "target"),
    [
        (["verify", "--backend", "torch"], "verify.verify", "verify/torch.json"),
        (["timing", "operators"], "timing.operators.time_operators", "timing/operators.json"),
        (["timing", "training"], "timing.training.time_training", "timing/training.json"),
    ],
    ids=["verify", "timing operators", "timing training"],
)
def test_a_stage_that_has_lost_it_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    work: str,
    target: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("backends: [torch]\n")
    path = Path("results", target)

    def lose(*_: object) -> dict[str, str]:
        lease.take(Path("results"), path)
        return {}

    monkeypatch.setattr(f"opproof.{work}", lose)
    assert __main__.main(command) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"opproof {command[0]}: {path}: another attempt has taken over (pid ")
    assert said.count("\n") == 1
    assert not path.exists()
