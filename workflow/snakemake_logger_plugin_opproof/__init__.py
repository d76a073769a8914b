"""Snakemake's logger plugin "opproof": a line per stage in place of several per job."""

import copy
import logging
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import (
    LogHandlerSettingsBase,
    OutputSettingsLoggerInterface,
)

from opproof import holder
from snakemake_logger_plugin_opproof.display import Display
from snakemake_logger_plugin_opproof.lines import Lines
from snakemake_logger_plugin_opproof.progress import Progress
from snakemake_logger_plugin_opproof.watchdog import INTERRUPT, Watchdog, interrupt

_FAULTS = (LogEvent.ERROR, LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR)

# What Snakemake says of itself in every run.
_CHATTER = (
    "Assuming unrestricted shared filesystem usage",
    "Building DAG of jobs",
    "Using shell:",
    "Select jobs to execute",
)

# What the SLURM executor says in every run: that no account is set (SLURM says so if it wants
# one), and that a controller in a job is not as usual.
_SLURM_CHATTER = (
    "No SLURM account given",
    "No account was given",
    "Unable to guess SLURM account",
    "You are running snakemake in a SLURM job context",
    "Cleaning up SLURM log files",
)

# What it says once no job will be started any more, before the hooks have their say.
_ENDINGS = (
    "Terminating processes on user request",
    "Shutting down, this might take some time",
    "Exiting because a job execution failed",
)


class View(Protocol):
    """A way to show progress."""

    def update(self, changed: str | None) -> None:
        """Take note that a record was seen; `changed`: the stage whose job has ended by it."""

    def close(self) -> None:
        """Show the last state and end."""


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """What a profile may set: `logger-opproof-patience`."""

    patience: int = field(
        default=300,
        metadata={
            "help": "Seconds that a job on SLURM may be forgotten, blocked or ended without "
            "Snakemake's notice before it is given up; a run in which all jobs are is ended. Above "
            "180, the longest that the executor plugin sleeps.",
            "type": int,
        },
    )


class LogHandler(LogHandlerBase):
    """Shows the stages' progress, and Snakemake's messages in Snakemake's own words.

    Where each job is asked for (-n, -p, --verbose, --debug-dag), or silence is (--quiet), the
    output is Snakemake's own. A job's inner Snakemake loads no logger plugin.
    """

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False
    settings: LogHandlerSettings

    def __post_init__(self) -> None:
        self.progress = Progress()
        self.watchdog = Watchdog(self.progress, self.settings.patience, interrupt)
        with suppress(ValueError):  # not the main thread: the watchdog's last resort remains
            signal.signal(INTERRUPT, signal.default_int_handler)
        self._messages = _snakemake_handler(self.common_settings)
        self._view = _view(self.common_settings, self.progress, self._messages)
        self._ended = False

    def emit(self, record: logging.LogRecord) -> None:
        # An exception that leaves here ends the thread that brings every record.
        try:
            changed = self.progress.see(record)
            self.watchdog.see(record)
            if self._view is None or _is_message(record):
                self._messages.handle(_with_holder(record))
            if record.getMessage().startswith(_ENDINGS):
                self._end()
            elif self._view and not self._ended:
                self._view.update(changed)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        self._end()
        super().close()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self.progress.end()
            self.watchdog.stop()
            if self._view:
                self._view.close()


def _view(
    settings: OutputSettingsLoggerInterface, progress: Progress, messages: logging.StreamHandler
) -> View | None:
    """Return the view for these settings and this stderr; None for Snakemake's own output."""
    each_job = settings.printshellcmds or settings.verbose or settings.debug_dag
    silence = {Quietness.ALL, Quietness.PROGRESS} & set(settings.quiet or ())
    if settings.dryrun or each_job or silence:
        return None
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return Display(progress, settings.nocolor)
    return Lines(progress, messages)


def _snakemake_handler(settings: OutputSettingsLoggerInterface) -> logging.StreamHandler:
    """Return what Snakemake would use if no plugin wrote to the stream."""
    handler = ColorizingTextHandler(
        nocolor=settings.nocolor, stream=sys.stdout if settings.stdout else sys.stderr
    )
    handler.setFormatter(DefaultFormatter(settings.quiet, settings.show_failed_logs))
    handler.addFilter(
        DefaultFilter(
            settings.quiet,
            settings.debug_dag,
            settings.verbose,
            settings.dryrun,
            settings.printshellcmds,
        )
    )
    return handler


def _is_message(record: logging.LogRecord) -> bool:
    event = getattr(record, "event", None)
    if event is None:
        return not record.getMessage().startswith((*_CHATTER, *_SLURM_CHATTER))
    return event in _FAULTS


def _with_holder(record: logging.LogRecord) -> logging.LogRecord:
    """Return the record, with who holds the folder if it says that the folder is locked."""
    if getattr(record, "exception", None) != "LockException":
        return record
    record = copy.copy(record)
    record.msg = f"{record.msg}\n{holder.explain(Path())}"
    return record
