"""The run in a file or a CI log: a plain line when a stage has changed."""

import time
from logging import StreamHandler
from threading import Lock, Timer

from snakemake_logger_plugin_opproof import words
from snakemake_logger_plugin_opproof.progress import Progress, Stage

_INTERVAL = 1.0  # seconds between two lines of a stage


class Lines:
    """Writes to the stream of `messages`, at most one line a second for each stage.

    A change within that second is told at the end of it, so that the last one is never missed.
    """

    def __init__(self, progress: Progress, messages: StreamHandler) -> None:
        self._progress = progress
        self._messages = messages
        self._announced = False
        self._lock = Lock()
        self._written: dict[str, float] = {}
        self._pending: set[str] = set()

    def update(self, changed: str | None) -> None:
        """Tell what is to be done, once it is known, then of the stage that has changed."""
        if not self._announced:
            self._announce()
        if changed is None:
            return
        with self._lock:
            wait = self._written.get(changed, 0.0) + _INTERVAL - time.monotonic()
            if wait <= 0 or self._progress.is_complete(changed):
                self._write(self._progress.stage(changed))
            elif changed not in self._pending:
                self._pending.add(changed)
                timer = Timer(wait, self._write_pending, [changed])
                timer.daemon = True
                timer.start()

    def close(self) -> None:
        """Write what was still to be written, and which stages have unfinished jobs."""
        with self._lock:
            for stage in self._progress.stages():
                if stage.name in self._pending or stage.under_way:
                    self._write(stage)

    def _announce(self) -> None:
        stages = self._progress.stages()
        if stages:
            self._announced = True
            self._line("to do: " + ", ".join(f"{stage.name} {stage.total}" for stage in stages))

    def _write_pending(self, name: str) -> None:
        with self._lock:
            if name in self._pending:
                self._write(self._progress.stage(name))

    def _write(self, stage: Stage) -> None:
        self._written[stage.name] = time.monotonic()
        self._pending.discard(stage.name)
        self._line(_line(stage))

    def _line(self, line: str) -> None:
        self._messages.stream.write(line + "\n")
        self._messages.stream.flush()


def _line(stage: Stage) -> str:
    parts = [
        f"{stage.name} {stage.done}/{stage.total} done",
        words.failed(stage),
        words.under_way(stage),
        words.time_to_go(stage.seconds_to_go) if stage.seconds_to_go else "",
    ]
    return ", ".join(part for part in parts if part)
