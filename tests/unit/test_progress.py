import io
import os
import pty
import re
import sys
import threading
from collections.abc import Callable

import pytest

from opproof.train.progress import Progress


def two_runs() -> None:
    """Show a run of two epochs, and one that was trained before."""
    with Progress("mine", seeds=2, epochs=2) as progress:
        progress.epoch_done(1, {3: 0.5}, [97.128])
        progress.epoch_done(2, {3: 0.25}, [98.0])
        progress.run_done(3, "trained")
        progress.run_done(17, "trained before")


def failing_run() -> None:
    with Progress("mine", seeds=1, epochs=2) as progress:
        progress.run_done(3, "the loss became nan at step 1")
        raise RuntimeError


LINES = """\
mine seed 3 epoch 1/2 loss 0.500000 accuracy 97.13 %
mine seed 3 epoch 2/2 loss 0.250000 accuracy 98.00 %
mine seed 3: trained
mine seed 17: trained before
"""


def test_lines_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    two_runs()
    captured = capsys.readouterr()
    assert captured.out == LINES
    assert captured.err == ""


def test_runs_that_are_trained_together_have_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("mine", seeds=3, epochs=2) as progress:
        progress.epoch_done(1, {3: 0.5, 4: 0.25, 9: 0.75}, [98.0, 97.0, 99.0])
        progress.epoch_done(2, {3: 0.5, 9: 0.25}, [98.0, 99.0])
    assert capsys.readouterr().out == (
        "mine 3 seeds epoch 1/2 loss 0.500000 accuracy 98.00 %\n"
        "mine 2 seeds epoch 2/2 loss 0.375000 accuracy 98.50 %\n"
    )


def test_each_line_is_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # Buffered, as a log file is: who follows it sees an epoch when it ends.
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(raw)))
    with Progress("mine", seeds=1, epochs=1) as progress:
        progress.epoch_done(1, {3: 0.5}, [97.128])
        assert raw.getvalue().count(b"\n") == 1
        progress.run_done(3, "trained")
        assert raw.getvalue().count(b"\n") == 2


def test_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = without_escapes(on_a_terminal(two_runs, monkeypatch))
    assert "mine seed 3: trained\n" in shown
    assert "mine seed 17: trained before\n" in shown
    last = shown.rstrip().splitlines()[-1]
    assert re.match(r"mine ━+ 4/4 epochs, 0:00:00 to go", last)
    assert "seed 3 loss 0.250000 accuracy 98.00 %" in last
    assert capsys.readouterr().out == "", "stdout is for what is asked for"


def test_a_terminal_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        with pytest.raises(RuntimeError):
            failing_run()

    shown = on_a_terminal(fail, monkeypatch)
    assert "mine seed 3: the loss became nan at step 1\n" in without_escapes(shown)
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is shown again"


def on_a_terminal(do: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> str:
    """Do it with stderr on a pseudo-terminal; return what that received, \\r\\n as \\n."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    received = io.BytesIO()

    def receive() -> None:
        try:
            while piece := os.read(terminal, 4096):
                received.write(piece)
        except OSError:  # how Linux says that nobody has it open any more
            pass

    terminal, end = pty.openpty()
    reader = threading.Thread(target=receive)
    with os.fdopen(end, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        reader.start()
        do()
    reader.join()
    os.close(terminal)
    return received.getvalue().decode().replace("\r\n", "\n")


def without_escapes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
