import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from opproof import artifact, holder

_RUN = """
import sys, time
from pathlib import Path
from opproof import holder
holder.acquire(Path(sys.argv[1]))
print("acquired", flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").write_text("config.yaml\n")
    (locks / "0.output.lock").write_text("results/summary.json\n")
    return tmp_path


@contextmanager
def running(folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that acquires the folder and then does nothing."""
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout
    assert process.stdout.readline() == "acquired\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def killed(folder: Path) -> Path:
    """A folder whose holder was killed."""
    with running(folder):
        pass
    return folder


def edit(folder: Path, **changes: Any) -> None:
    path = folder / ".snakemake" / "opproof-holder.json"
    artifact.write_json(path, {**artifact.read_json(path), **changes})


def locks(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / ".snakemake" / "locks").iterdir())


def read(folder: Path) -> holder.Holder:
    found = holder.read(folder)
    assert found
    return found


def test_a_run_writes_itself_down(folder: Path) -> None:
    with running(folder, SLURM_JOB_ID="77") as process:
        found = read(folder)
        assert (found.pid, found.slurm_job) == (process.pid, "77")
        assert found.host in str(found)
        assert f"pid {process.pid}" in str(found)
        assert "SLURM job 77" in str(found)
        assert found.started.endswith("+00:00")
        assert set(found.locks) == {"0.input.lock", "0.output.lock"}


def test_a_process_lives_until_it_is_killed(folder: Path) -> None:
    with running(folder) as process:
        assert read(folder).is_alive() is True
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert read(folder).is_alive() is False, "a process that nobody has waited for is dead"
        process.wait()
        assert read(folder).is_alive() is False


def test_a_recycled_pid_is_not_the_holder(folder: Path) -> None:
    with running(folder):
        edit(folder, start_time=read(folder).start_time - 1)
        assert read(folder).is_alive() is False


def test_a_process_of_before_a_reboot_is_dead(folder: Path) -> None:
    with running(folder):
        edit(folder, boot="another boot")
        assert read(folder).is_alive() is False


@pytest.mark.parametrize("place", ["host", "machine", "namespace"])
def test_elsewhere_nothing_can_be_told(killed: Path, place: str) -> None:
    edit(killed, **{place: "another"})
    assert read(killed).is_alive() is None
    assert holder.clear_stale(killed) is None
    assert len(locks(killed)) == 2


def test_a_hidden_process_may_live(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(_: int) -> tuple[str, int]:
        raise FileNotFoundError

    with running(folder):
        monkeypatch.setattr(holder, "_process", hidden)
        assert read(folder).is_alive() is None


def test_release_removes_ones_own_record_alone(folder: Path) -> None:
    holder.acquire(folder)
    holder.release(folder)
    assert holder.read(folder) is None
    with running(folder):
        holder.release(folder)
        assert holder.read(folder)


def test_release_without_a_record_is_no_fault(tmp_path: Path) -> None:
    holder.release(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", '{"digest": "0"}', "[]"])
def test_a_damaged_record_is_none(folder: Path, content: str) -> None:
    (folder / ".snakemake" / "opproof-holder.json").write_text(content)
    assert holder.read(folder) is None
    assert "not known" in holder.explain(folder)
    assert holder.clear_stale(folder) is None


def test_a_record_of_another_version_is_none(killed: Path) -> None:
    edit(killed, shoe_size=42)
    assert holder.read(killed) is None


def test_the_locks_of_a_killed_run_are_cleared_once(killed: Path) -> None:
    pid = read(killed).pid
    message = holder.clear_stale(killed)
    assert message
    assert f"pid {pid}" in message
    assert "\n" not in message
    assert locks(killed) == []
    assert [path.name for path in (killed / ".snakemake").iterdir()] == ["locks"]
    assert holder.clear_stale(killed) is None


def test_the_locks_of_a_live_run_are_untouched(folder: Path) -> None:
    with running(folder) as process:
        assert holder.clear_stale(folder) is None
        assert len(locks(folder)) == 2
        assert read(folder).pid == process.pid


def test_without_a_record_nothing_is_touched(folder: Path) -> None:
    assert holder.clear_stale(folder) is None
    assert len(locks(folder)) == 2


def test_without_locks_the_record_is_untouched(killed: Path) -> None:
    for name in locks(killed):
        (killed / ".snakemake" / "locks" / name).unlink()
    assert holder.clear_stale(killed) is None
    assert holder.read(killed)


def test_later_locks_of_the_same_name_are_untouched(killed: Path) -> None:
    """A user has unlocked the folder, and a run is between its lock and its record."""
    lock = killed / ".snakemake" / "locks"
    for name in locks(killed):
        (lock / name).unlink()
        (lock / name).write_text("results/other\n")
        os.utime(lock / name)
    assert holder.clear_stale(killed) is None
    assert len(locks(killed)) == 2
    assert "not known" in holder.explain(killed)


def test_locks_of_two_runs_are_nobodys(folder: Path) -> None:
    (folder / ".snakemake" / "locks" / "1.output.lock").write_text("results-2/summary.json\n")
    with running(folder) as process:
        assert read(folder).locks == {}
        assert f"pid {process.pid}" in holder.explain(folder)
    assert holder.clear_stale(folder) is None
    assert len(locks(folder)) == 3


def test_the_first_holder_stays_written_down(folder: Path) -> None:
    with running(folder) as first, running(folder):
        assert read(folder).pid == first.pid


def test_a_killed_holder_is_replaced(killed: Path) -> None:
    with running(killed) as process:
        assert read(killed).pid == process.pid


def test_of_clearers_at_once_one_clears(killed: Path) -> None:
    path = killed / ".snakemake" / "opproof-holder.json"
    record = json.loads(path.read_text())
    for _ in range(50):
        for name, written in record["locks"].items():
            lock = killed / ".snakemake" / "locks" / name
            lock.touch()
            os.utime(lock, ns=(written, written))
        path.write_text(json.dumps(record))
        start = threading.Barrier(4)
        messages: list[str | None] = []

        def clear(start: threading.Barrier = start, messages: list = messages) -> None:
            start.wait()
            messages.append(holder.clear_stale(killed))

        threads = [threading.Thread(target=clear) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(messages) == 4
        assert sum(message is not None for message in messages) == 1
        assert locks(killed) == []


def test_a_late_clearer_gives_a_new_record_back(
    killed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = read(killed)
    monkeypatch.setattr(holder, "read", lambda _: stale)
    with running(killed) as process:
        assert holder.clear_stale(killed) is None
        monkeypatch.undo()
        assert read(killed).pid == process.pid
        assert len(locks(killed)) == 2


def test_explain_tells_how_to_end_a_live_run(folder: Path) -> None:
    with running(folder) as process:
        text = holder.explain(folder)
        assert f"kill {process.pid}" in text
        edit(folder, slurm_job="77")
        assert "scancel 77" in holder.explain(folder)


def test_explain_tells_how_to_unlock_after_a_killed_run(killed: Path) -> None:
    text = holder.explain(killed)
    assert "was killed" in text
    assert "snakemake --unlock" in text


def test_explain_tells_where_to_look_on_another_host(killed: Path) -> None:
    pid = read(killed).pid
    edit(killed, host="node7")
    assert f"ssh node7 ps -p {pid}" in holder.explain(killed)
    edit(killed, slurm_job="77")
    assert "squeue -j 77" in holder.explain(killed)


def test_a_process_name_with_parentheses_is_read(tmp_path: Path) -> None:
    program = tmp_path / "sleep ) R 1 ("
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(program), "600"])
    try:
        state, start_time = holder._process(process.pid)
        assert state in ("R", "S", "D")
        assert start_time >= holder._process(os.getpid())[1]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_is_locked(folder: Path) -> None:
    assert holder.is_locked(folder)
    for lock in (folder / ".snakemake" / "locks").iterdir():
        lock.unlink()
    assert not holder.is_locked(folder)
