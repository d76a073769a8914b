"""The run on a terminal: a line per stage that is kept up to date, all else above it."""

import os
import sys

from rich.ansi import AnsiDecoder
from rich.console import Console, ConsoleDimensions
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from snakemake_logger_plugin_opproof import words
from snakemake_logger_plugin_opproof.capture import Capture
from snakemake_logger_plugin_opproof.progress import Progress, Stage

_BAR_WIDTH = 30


class Display:
    """Draws on stderr, which is a terminal, while there are jobs to do.

    Whatever is written to the terminal meanwhile, by this process or by a job, goes above.
    """

    def __init__(self, progress: Progress, no_color: bool) -> None:
        self._progress = progress
        self._terminal = os.dup(sys.stderr.fileno())
        self._console = Console(
            file=os.fdopen(self._terminal, "w", encoding=sys.stderr.encoding, errors="replace"),
            force_terminal=True,
            force_interactive=True,
            no_color=no_color or None,  # None: as the environment says (NO_COLOR)
            soft_wrap=True,  # a long path above the lines stays in one piece
        )
        self._live = Live(
            console=self._console,
            get_renderable=self._table,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._capture = Capture(self._print)
        self._decoder = AnsiDecoder()

    def update(self, changed: str | None) -> None:
        """Start once there are stages; end when all are complete, so that results come below."""
        if self._progress.is_complete():
            self.close()
        elif not self._live.is_started:
            self._capture.start()
            self._live.start(refresh=True)

    def close(self) -> None:
        """Leave the last state on the screen, and the screen to others."""
        if self._live.is_started:
            self._capture.drain()
            self._live.stop()
            self._capture.stop()

    def _print(self, line: str) -> None:
        self._console.print(self._decoder.decode_line(line))

    def _table(self) -> Table:
        # Of its own accord the console would ask stdout and stderr, which are not the terminal.
        columns, lines = os.get_terminal_size(self._terminal)
        self._console.size = ConsoleDimensions(columns or 80, lines or 25)  # 0: it does not know
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(max_width=_BAR_WIDTH)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        for stage in self._progress.stages():
            table.add_row(*_row(stage))
        return table


def _row(stage: Stage) -> tuple[Text | ProgressBar, ...]:
    states = (Text(words.under_way(stage)), Text(words.failed(stage), style="red"))
    to_go = ""
    if stage.is_at_work:
        to_go = words.time_to_go(stage.seconds_to_go) if stage.seconds_to_go else "—"
    return (
        Text(stage.name),
        ProgressBar(total=stage.total, completed=stage.done),
        Text(f"{stage.done}/{stage.total}"),
        Text(", ").join(state for state in states if state),
        Text(to_go),
    )
