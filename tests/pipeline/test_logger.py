import codecs
import fcntl
import io
import itertools
import json
import logging
import os
import pty
import random
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_opproof import words
from snakemake_logger_plugin_opproof.lines import Lines
from snakemake_logger_plugin_opproof.progress import Progress, Stage

_PATIENCE = 120.0  # seconds until something that never comes is given up
_WORKFLOW = Path(__file__).resolve().parents[2] / "workflow"

# The summary's job has a Snakemake of its own, which must stay silent but for the job's own line.
_SNAKEFILE = """
from pathlib import Path
from opproof import holder

if workflow.is_main_process and not workflow.output_settings.dryrun and "keep" not in config:
    if message := holder.clear_stale(Path()):
        logger.warning(message)

onstart:
    holder.acquire(Path())
    print("onstart: a " + "very " * 30 + "long line [red] of its own")
    assert "broken" not in config

onsuccess:
    holder.release(Path())
    print("onsuccess: done")
    shell("sleep 0.5; echo a table from a process")

onerror:
    holder.release(Path())
    print("onerror: failed", file=sys.stderr)
    shell("sleep 0.5; echo a table from a process")

SLEEP = config.get("sleep", 0.2)

rule all:
    input: "summary.txt"

rule data:
    output: "data.txt"
    shell: "sleep 0.2; touch {output}"

rule build:
    output: "build.txt"
    shell: "sleep 0.2; touch {output}"

rule verify:
    input: "build.txt"
    output: "verify-{i}.txt"
    shell: "sleep 0.2; touch {output}"

rule train:
    input: "data.txt", "verify-{i}.txt"
    output: "train-{i}.txt"
    log: "train-{i}.log"
    retries: config.get("retries", 0)
    shell:
        "(echo the log of {wildcards.i}; sleep {SLEEP}; test ! -e fail-{wildcards.i}) > {log};"
        "test -e lose-{wildcards.i} || touch {output}"

rule summary:
    input: expand("train-{i}.txt", i=list("abcd"))
    output: "summary.txt"
    run:
        print("a line from a job", end="\\r\\n")
        print("its last words", end="")
        Path(output[0]).touch()
"""

_STAGES = {"data": 1, "build": 1, "verify": 4, "train": 4, "summary": 1}


class Terminal:
    """A Snakemake with a terminal for its output; `text` is all that came onto it so far."""

    def __init__(self, command: list[str], columns: int = 80, stdout: Path | None = None) -> None:
        self._master, slave = pty.openpty()
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout.open("w") if stdout else slave,
            stderr=slave,
            env=_environment(TERM="xterm-256color"),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(2, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.text = ""

    def read_until(self, pattern: str) -> None:
        """Read until the text matches; fails where the terminal closes before, or hangs."""
        deadline = time.monotonic() + _PATIENCE
        while not re.search(pattern, self.text):
            on_time = time.monotonic() < deadline
            assert on_time and self._read(), f"{pattern!r} never came:\n{self.text}"

    def read_all(self) -> int:
        """Read to the end and return the exit status."""
        while self._read():
            pass
        return self.process.wait()

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._master)

    def _read(self) -> bool:
        try:
            content = os.read(self._master, 65536)
        except OSError:  # the other end is closed
            return False
        self.text += self._decoder.decode(content)
        return bool(content)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text(_SNAKEFILE)
    return tmp_path


@pytest.fixture
def terminal(project: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_terminal(*arguments: str, **options: Any) -> Terminal:
        opened.append(Terminal(command(*arguments), **options))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


@pytest.fixture
def started(project: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that trains until it is killed, in a process group of its own."""
    process = subprocess.Popen(
        command("--config", "sleep=600"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
        start_new_session=True,
    )
    while not list(project.glob("train-*.log")):
        assert process.poll() is None
        time.sleep(0.05)
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def command(*arguments: str, logger: str | None = "opproof") -> list[str]:
    chosen = ["--logger", logger] if logger else []
    return [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", *chosen]


def snakemake(*arguments: str, logger: str | None = "opproof") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments, logger=logger), capture_output=True, text=True, env=_environment()
    )


def _environment(**extra: str) -> dict[str, str]:
    fixed = {
        "PYTHONPATH": os.pathsep.join([str(_WORKFLOW), os.environ.get("PYTHONPATH", "")]),
        "PYTHONHASHSEED": "0",  # Snakemake lists some sets
    }
    unwanted = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "SNAKEMAKE_PROFILE")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {**kept, **fixed, **extra}


def screen(text: str) -> str:
    """Return what an endlessly wide and high terminal shows after `text`."""
    rows = [""]
    row = column = 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|.", text, re.DOTALL):
        if token == "\r":
            column = 0
        elif token == "\n":
            row += 1
            rows += [""] * (row == len(rows))
        elif token.startswith("\x1b"):
            row -= int(token[2:-1]) if token.endswith("A") else 0
            rows[row] = "" if token.endswith("K") else rows[row]
        else:
            rows[row] = rows[row][:column].ljust(column) + token + rows[row][column + 1 :]
            column += 1
    return "\n" + "\n".join(line.rstrip() for line in rows)


def cursor_is_shown(text: str) -> bool:
    return text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def screen_line(stage: str, count: str, rest: str = "") -> str:
    return rf"(?m)^{stage} +[━╸╺]+ +{count}{rest}$"


def test_in_a_file_there_are_plain_lines(project: Path) -> None:
    result = snakemake()
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    assert lines[0] == "to do: data 1, build 1, verify 4, train 4, summary 1"
    for stage, total in _STAGES.items():
        told = [line for line in lines if line.startswith(f"{stage} ")]
        assert 1 <= len(told) <= total
        assert told[-1] == f"{stage} {total}/{total} done"
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", result.stderr)
    assert not re.search("rule |jobid|Select jobs|SNAKEMAKE|steps", result.stderr)
    assert "onsuccess: done" in result.stdout


def test_what_was_done_before_is_not_counted(project: Path) -> None:
    assert snakemake("train-a.txt", "train-b.txt").returncode == 0
    lines = snakemake().stderr.splitlines()
    assert lines[0] == "to do: verify 2, train 2, summary 1"
    assert "train 2/2 done" in lines


def test_on_a_terminal_a_line_per_stage_is_kept_up_to_date(
    terminal: Callable[..., Terminal],
) -> None:
    shown = terminal("--config", "sleep=1")
    shown.read_until(r"\x1b\[\?25l")
    shown.read_until(r"train .*0/4.*2 running  —")
    shown.read_until(r"train .*2/4.*about \d+ s to go")
    assert shown.read_all() == 0
    text = screen(shown.text)
    lines = [f"\n{stage} " for stage in _STAGES]
    assert [text.count(line) for line in lines] == [1] * len(lines)
    for stage, total in _STAGES.items():
        assert re.search(screen_line(stage, f"{total}/{total}"), text)
    # In the pipeline's order, and what comes after them below them.
    places = [text.index(each) for each in (*lines, "\na table from a process\n")]
    assert places == sorted(places)
    assert cursor_is_shown(shown.text)
    assert "rule train" not in text


@pytest.mark.parametrize("columns", [0, 40])
def test_lines_fit_the_terminal(terminal: Callable[..., Terminal], columns: int) -> None:
    """0 is a terminal that does not know its width."""
    shown = terminal("--config", "sleep=1", columns=columns)
    shown.read_until(r"train .*2/4.*about \d+ s to go")
    assert shown.read_all() == 0
    lines = re.findall(r"train +[^\r\x1b]*(?:\x1b\[[0-9;]*m[^\r\x1b]*)*", shown.text)
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in lines) <= (columns or 80)
    assert re.search(screen_line("train", "4/4"), screen(shown.text))


def test_what_hooks_and_jobs_write_stays_whole_above_the_lines(
    terminal: Callable[..., Terminal],
) -> None:
    shown = terminal()
    shown.read_all()
    text = screen(shown.text)
    assert "\nonstart: a " + "very " * 30 + "long line [red] of its own\n" in text
    assert text.index("\na line from a job\nits last words\n") < text.index("\ndata ")


def test_with_stdout_in_a_file_the_lines_are_on_the_terminal(
    project: Path, terminal: Callable[..., Terminal]
) -> None:
    shown = terminal(stdout=project / "stdout")
    assert shown.read_all() == 0
    assert re.search(screen_line("train", "4/4"), screen(shown.text))
    assert "a line from a job" not in shown.text
    written = (project / "stdout").read_text()
    assert "onstart: " in written
    assert "a line from a job" in written
    assert "\x1b" not in written


def test_a_fault_in_a_hook_ends_the_display(terminal: Callable[..., Terminal]) -> None:
    shown = terminal("--config", "broken=1")
    assert shown.read_all() != 0
    assert cursor_is_shown(shown.text)
    text = screen(shown.text)
    assert "\nAssertionError" in text
    assert re.search(screen_line("train", "0/4"), text)


def test_a_failed_job_is_told_with_its_log(project: Path) -> None:
    (project / "fail-b").touch()
    result = snakemake("--keep-going", "--show-failed-logs")
    assert result.returncode == 1
    assert "Error in rule train:" in result.stderr
    assert "log: train-b.log" in result.stderr
    assert "\nthe log of b\n" in result.stderr
    assert "\ntrain 3/4 done, 1 failed\n" in result.stderr
    assert "onerror: failed" in result.stderr
    assert "At least one job did not complete successfully" in result.stderr


def test_the_content_of_a_log_is_shown_on_request_alone(project: Path) -> None:
    (project / "fail-b").touch()
    result = snakemake()
    assert "log: train-b.log" in result.stderr
    assert "\nthe log of b\n" not in result.stderr


def test_a_failed_job_is_told_above_the_lines(
    project: Path, terminal: Callable[..., Terminal]
) -> None:
    (project / "fail-b").touch()
    shown = terminal("--keep-going", "--show-failed-logs")
    assert shown.read_all() == 1
    text = screen(shown.text)
    assert text.index("\nthe log of b\n") < text.index("\ndata ")
    assert re.search(r"\x1b\[31m +log: train-b.log", shown.text), "every line of it is red"
    assert re.search(screen_line("train", "3/4", " +1 failed"), text)
    assert re.search(screen_line("summary", "0/1"), text)
    assert "\nonerror: failed\n" in text
    assert text.index("\nsummary ") < text.index("\na table from a process\n")
    assert cursor_is_shown(shown.text)


def test_a_job_that_succeeds_at_last_has_not_failed(project: Path) -> None:
    (project / "fail-b").touch()
    process = subprocess.Popen(
        command("--config", "retries=1", "sleep=1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
    )
    assert process.stderr
    errors = ""
    while "Trying to restart job" not in errors:
        line = process.stderr.readline()
        assert line, errors
        errors += line
    (project / "fail-b").unlink()
    errors += process.communicate()[1]
    assert process.returncode == 0
    assert errors.count("Error in rule train:") == 1
    assert "train 4/4 done\n" in errors


def test_a_job_that_leaves_no_output_has_failed(project: Path) -> None:
    (project / "lose-b").touch()
    result = snakemake("--keep-going", "--latency-wait", "0")
    assert "MissingOutputException" in result.stderr
    assert "train 3/4 done, 1 failed\n" in result.stderr


@pytest.mark.parametrize("choice", [["-n"], ["-n", "--quiet"]])
def test_a_dry_run_is_as_without_the_plugin(project: Path, choice: list[str]) -> None:
    results = [snakemake(*choice, logger=logger) for logger in (None, "opproof")]
    differing = re.compile(r"(?m)^\[.*\d{4}\]$|^  (Date|Workflow ID|Command): .*$")
    without, with_plugin = (differing.sub("", result.stdout) for result in results)
    # The files of a reason are listed in any order.
    assert sorted(re.split(r"[\s,]+", without)) == sorted(re.split(r"[\s,]+", with_plugin))
    assert without
    assert results[0].stderr == results[1].stderr


@pytest.mark.parametrize("choice", ["-p", "--debug-dag"])
def test_with_each_job_asked_for_each_is_told(project: Path, choice: str) -> None:
    result = snakemake(choice)
    assert result.stderr.count("rule train:") == 4
    assert "to do:" not in result.stderr


def test_quiet_is_respected(project: Path) -> None:
    assert "to do:" not in snakemake("--quiet", "progress").stderr
    result = snakemake("--quiet", "all", "--forceall")
    assert (result.returncode, result.stderr) == (0, "")


def test_nothing_to_do_is_told_in_words(project: Path, terminal: Callable[..., Terminal]) -> None:
    assert snakemake().returncode == 0
    assert snakemake().stderr.startswith("Nothing to be done")
    shown = terminal()
    assert shown.read_all() == 0
    assert "Nothing to be done" in shown.text
    assert "\x1b[?25l" not in shown.text


def test_an_interrupt_ends_the_display(terminal: Callable[..., Terminal]) -> None:
    shown = terminal("--config", "sleep=600")
    shown.read_until(r"train .*0/4.*2 running")
    shown.type(b"\x03")
    assert shown.read_all() != 0
    assert cursor_is_shown(shown.text)
    text = screen(shown.text)
    assert re.search(screen_line("build", "1/1"), text)
    assert re.search(screen_line("train", "0/4", " +.*(failed|unfinished)"), text)
    assert not re.search("\ntrain .* running", text)
    assert "\nonerror: failed\n" in text
    assert text.index("\nsummary ") < text.index("\na table from a process\n")


def test_a_second_run_is_told_who_holds_the_folder(
    started: subprocess.Popen[str], project: Path
) -> None:
    result = snakemake()
    assert result.returncode == 1
    assert "LockException" in result.stderr
    assert f"pid {started.pid} on host {os.uname().nodename}" in result.stderr
    assert f"kill {started.pid}" in result.stderr


def test_who_holds_the_folder_is_told_whatever_the_output(
    started: subprocess.Popen[str], project: Path
) -> None:
    assert f"pid {started.pid} on host" in snakemake("--verbose").stderr


def test_a_killed_run_is_told_and_cleared(started: subprocess.Popen[str], project: Path) -> None:
    started.kill()
    started.wait()
    kept = snakemake("--rerun-incomplete", "--config", "keep=1")
    assert kept.returncode == 1
    assert f"was killed: pid {started.pid}" in kept.stderr
    assert "snakemake --unlock" in kept.stderr
    cleared = snakemake("--rerun-incomplete")
    assert cleared.returncode == 0, cleared.stderr
    assert cleared.stderr.count("Cleared the lock of a run that was killed") == 1


def test_a_folder_locked_by_nobody_known(project: Path) -> None:
    locks = project / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text("summary.txt\n")
    result = snakemake()
    assert result.returncode == 1
    assert "LockException" in result.stderr
    assert "Which run holds it is not known" in result.stderr


_WATCHED = """
import json, threading, time
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import OutputSettings, ResourceSettings
from snakemake_logger_plugin_opproof import LogHandlerSettings

seen = {}
settings = OutputSettings(log_handler_settings={"opproof": LogHandlerSettings()})
with SnakemakeApi(settings) as api:
    [handler] = api.get_log_handlers()
    beginning = handler.progress.last_event
    done = threading.Event()

    def watch():
        while not done.wait(0.01):
            for number, job in handler.progress.jobs().items():
                seen.setdefault(number, job.stage)

    watcher = threading.Thread(target=watch)
    watcher.start()
    workflow = api.workflow(ResourceSettings(cores=2), snakefile=Path("Snakefile"))
    workflow.dag().execute_workflow()
done.set()
watcher.join()
print("\\n" + json.dumps({
    "seen": sorted(seen.values()),
    "left": len(handler.progress.jobs()),
    "done": {stage.name: stage.done for stage in handler.progress.stages()},
    "quiet": [handler.progress.last_event - beginning, time.monotonic() - beginning],
}))
"""


def test_a_watcher_sees_every_start_and_finish(project: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _WATCHED], capture_output=True, text=True, env=_environment()
    )
    assert result.returncode == 0, result.stderr
    watched = json.loads(result.stdout.splitlines()[-1])
    assert watched["seen"] == sorted(name for name, n in _STAGES.items() for _ in range(n))
    assert watched["left"] == 0
    assert watched["done"] == _STAGES
    last_event, now = watched["quiet"]
    assert 0 < last_event <= now


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def event(kind: LogEvent, message: str = "", **fields: Any) -> logging.LogRecord:
    record = logging.makeLogRecord({"msg": message})
    vars(record).update(event=kind, **fields)
    return record


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> Progress:
    """Ten training jobs to do, none started."""
    made = Progress(clock)
    made.see(event(LogEvent.RUN_INFO, stats={"train": 10, "all": 1, "total": 11}))
    return made


def start(progress: Progress, *numbers: int, local: bool = True, rule: str = "train") -> None:
    for number in numbers:
        info = {"jobid": number, "rule_name": rule, "local": local, "resources": {}}
        progress.see(event(LogEvent.JOB_INFO, **info))


def finish(progress: Progress, *numbers: int) -> None:
    for number in numbers:
        progress.see(event(LogEvent.JOB_FINISHED, job_id=number))


def train(progress: Progress) -> Stage:
    [stage] = progress.stages()
    return stage


def test_time_to_go_is_unknown_before_a_job_has_finished(progress: Progress, clock: Clock) -> None:
    start(progress, 1, 2)
    clock.now = 60
    assert train(progress).seconds_to_go is None


def test_time_to_go_comes_from_durations_and_jobs_side_by_side(
    progress: Progress, clock: Clock
) -> None:
    start(progress, 1, 2)
    clock.now = 10
    finish(progress, 1, 2)
    # Eight jobs of 10 s in two places.
    assert train(progress).seconds_to_go == 40
    start(progress, 3, 4)
    assert train(progress).seconds_to_go == 40
    clock.now = 16
    assert train(progress).seconds_to_go == 34
    finish(progress, 3)
    start(progress, 5)
    # 10, 10 and 6 s make a mean of 8 2/3 s, of which the one job has had 6; five more are to do.
    assert train(progress).seconds_to_go == pytest.approx(2.0 + 2 / 3 + 3 * (26 / 3))


@pytest.mark.parametrize("places", [1, 2, 3, 7])
def test_time_to_go_is_that_of_jobs_which_take_turns(clock: Clock, places: int) -> None:
    chance = random.Random(places)
    jobs = 20
    progress = Progress(clock)
    progress.see(event(LogEvent.RUN_INFO, stats={"train": jobs}))
    start(progress, *range(places))
    started = dict.fromkeys(range(places), 0.0)
    durations: list[float] = []

    def expected() -> float:
        mean = sum(durations) / len(durations)
        free = [max(since + mean - clock.now, 0.0) for since in started.values()]
        free += [0.0] * (places - len(free))
        for _ in range(jobs - len(durations) - len(started)):
            free.sort()
            free[0] += mean
        return max(free)

    for number in range(places, jobs):
        clock.now += chance.random()
        done = chance.choice([*started])
        durations.append(clock.now - started.pop(done))
        finish(progress, done)
        assert train(progress).seconds_to_go == pytest.approx(expected())
        start(progress, number)
        started[number] = clock.now
        assert train(progress).seconds_to_go == pytest.approx(expected())


def test_a_record_costs_the_same_in_a_run_of_many() -> None:
    def calls(jobs: int) -> int:
        progress = Progress()
        lines = Lines(progress, logging.StreamHandler(io.StringIO()))
        progress.see(event(LogEvent.RUN_INFO, stats={"train": jobs}))
        counted = itertools.count()
        sys.setprofile(lambda *_: next(counted))
        start(progress, *range(jobs))
        for number in range(jobs):
            lines.update(progress.see(event(LogEvent.JOB_FINISHED, job_id=number)))
        sys.setprofile(None)
        return next(counted)

    assert calls(2000) < 15 * calls(200)


def test_an_outlasted_estimate_is_not_told(progress: Progress, clock: Clock) -> None:
    start(progress, *range(10))
    clock.now = 10
    finish(progress, *range(9))
    clock.now = 11
    assert train(progress).seconds_to_go is None


def test_after_a_failure_with_nothing_under_way_no_time_is_told(
    progress: Progress, clock: Clock
) -> None:
    start(progress, 1, 2)
    clock.now = 10
    finish(progress, 1)
    progress.see(event(LogEvent.JOB_ERROR, jobid=2))
    assert (train(progress).failed, train(progress).seconds_to_go) == (1, None)


def test_jobs_left_at_the_end_are_unfinished(progress: Progress) -> None:
    start(progress, 1, 2)
    progress.end()
    assert train(progress).under_way == {"unfinished": 2}


def test_jobs_in_a_cluster_are_submitted(progress: Progress) -> None:
    progress.see(event(LogEvent.RESOURCES_INFO, nodes=4))
    start(progress, 1, 2, local=False)
    start(progress, 3)
    assert train(progress).under_way == {"submitted": 2, "running": 1}


def test_the_rule_that_asks_for_everything_is_no_stage(progress: Progress) -> None:
    start(progress, 1, rule="all")
    assert progress.jobs() == {}
    assert progress.see(event(LogEvent.JOB_FINISHED, job_id=1)) is None


def test_stages_come_in_the_pipelines_order() -> None:
    progress = Progress()
    names = ["extra", "train", "check", "summary", "verify", "build", "data"]
    progress.see(event(LogEvent.RUN_INFO, stats=dict.fromkeys(names, 1)))
    in_order = ["data", "build", "verify", "train", "summary", "check", "extra"]
    assert [stage.name for stage in progress.stages()] == in_order


def test_every_record_is_a_sign_of_life(progress: Progress, clock: Clock) -> None:
    clock.now = 7
    progress.see(logging.makeLogRecord({"msg": "Select jobs to execute..."}))
    assert progress.last_event == 7


def test_lines_of_a_stage_are_throttled_and_the_last_is_written(progress: Progress) -> None:
    stream = io.StringIO()
    lines = Lines(progress, logging.StreamHandler(stream))
    start(progress, *range(10))
    for number in range(9):
        lines.update(progress.see(event(LogEvent.JOB_FINISHED, job_id=number)))
    assert stream.getvalue().splitlines()[0] == "to do: train 10"
    assert len(stream.getvalue().splitlines()) == 2
    lines.close()
    assert stream.getvalue().splitlines()[2].startswith("train 9/10 done, 1 running")
    lines.update(progress.see(event(LogEvent.JOB_FINISHED, job_id=9)))
    assert stream.getvalue().splitlines()[3:] == ["train 10/10 done"]


def test_throttled_lines_are_written_without_another_event(progress: Progress) -> None:
    stream = io.StringIO()
    lines = Lines(progress, logging.StreamHandler(stream))
    start(progress, 1, 2, 3)
    deadline = time.monotonic() + _PATIENCE
    for number in (1, 2, 3):
        lines.update(progress.see(event(LogEvent.JOB_FINISHED, job_id=number)))
        while f"train {number}/10 done" not in stream.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "about 1 s to go"),
        (90, "about 90 s to go"),
        (91, "about 2 min to go"),
        (239, "about 4 min to go"),
        (5401, "about 1 h 31 min to go"),
    ],
)
def test_a_time_in_words(seconds: float, text: str) -> None:
    assert words.time_to_go(seconds) == text
