import os
from pathlib import Path

import pytest

from opproof import orphans, slurm


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands, first on the PATH; those that are not in it are SLURM's own."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def command(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/asked\n{script}\n')
    (folder / name).chmod(0o755)


def squeue(folder: Path, *jobs: tuple[str, ...]) -> None:
    lines = "\n".join("\x1f".join(job) for job in jobs)
    command(folder, "squeue", f"cat <<'END'\n{lines}\nEND")


def test_jobs(fake: Path) -> None:
    squeue(
        fake,
        ("7", "PENDING", "(Nodes required for job are DOWN)", "a name", "/a folder", "rule_train"),
        ("8", "CANCELLED", "None", "x", "/y", ""),
    )
    first, second = slurm.jobs("--me")
    assert first == slurm.Job(
        "7", "PENDING", "(Nodes required for job are DOWN)", "a name", "/a folder", "rule_train"
    )
    assert not first.has_ended
    assert second.has_ended
    assert "--states=all" in (fake / "asked").read_text()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'Unable to contact slurm controller' >&2; exit 1", "squeue: Unable to contact"),
        ("exit 3", "squeue: exit status 3"),
        ("exec sleep 60", "squeue: no answer within 0.5 seconds"),
    ],
)
def test_no_answer(fake: Path, script: str, words: str) -> None:
    command(fake, "squeue", script)
    with pytest.raises(slurm.SlurmError, match=words):
        slurm.ask("squeue", timeout=0.5)


def test_no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert not slurm.is_here()
    with pytest.raises(slurm.SlurmError, match="squeue: not on the PATH"):
        slurm.jobs()


def test_configuration(fake: Path) -> None:
    command(fake, "scontrol", "printf 'MinJobAge               = 300 sec\nnoise\n\nA = b = c\n'")
    assert slurm.configuration() == {"MinJobAge": "300 sec", "A": "b = c"}


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("printf '7\x1fRUNNING\x1fNone\x1fx\x1f/y\x1f\n'", True),
        ("printf '7\x1fTIMEOUT\x1fNone\x1fx\x1f/y\x1f\n'", False),
        ("true", False),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", False),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", None),
    ],
)
def test_is_going_on(fake: Path, script: str, expected: bool | None) -> None:
    command(fake, "squeue", script)
    assert slurm.is_going_on("7") is expected


def test_a_job_is_requeued_at_once(fake: Path) -> None:
    command(fake, "scontrol", "")
    slurm.requeue("7")
    asked = (fake / "asked").read_text().splitlines()
    assert asked == ["scontrol requeue 7", "scontrol update JobId=7 StartTime=now"]


def test_only_orphans_are_cancelled(fake: Path) -> None:
    folder = Path("/work/here")
    squeue(
        fake,
        ("1", "RUNNING", "None", "x", "/work/here", "rule_train_wildcards_torch_0"),
        ("2", "PENDING", "Priority", "x", "/work/here", "rule_verify_wildcards_torch"),
        ("3", "COMPLETED", "None", "x", "/work/here", "rule_train_wildcards_torch_1"),
        ("4", "RUNNING", "None", "opproof", "/work/here", ""),  # a controller in a job
        ("5", "RUNNING", "None", "x", "/work/elsewhere", "rule_train_wildcards_torch_0"),
    )
    command(fake, "scancel", "")
    message = orphans.cancel(folder)
    assert message
    assert "left on SLURM: 1, 2." in message
    asked = (fake / "asked").read_text().splitlines()
    assert "--me" in asked[0]
    assert asked[1:] == ["scancel --quiet 1 2"]


def test_without_orphans_nothing_is_said(fake: Path) -> None:
    squeue(fake)
    assert orphans.cancel(Path("/work/here")) is None


def test_orphans_that_slurm_does_not_tell_of(fake: Path) -> None:
    command(fake, "squeue", "echo 'no route to host' >&2; exit 1")
    assert orphans.cancel(Path("/work/here")) == (
        "Jobs of an earlier run were not looked for: squeue: no route to host"
    )
