"""The run on a terminal: a line per stage that is kept up to date, messages above it."""

import sys
from logging import StreamHandler

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from snakemake_logger_plugin_opproof import words
from snakemake_logger_plugin_opproof.progress import Progress, Stage

_BAR_WIDTH = 30


class Display:
    """Draws on stderr, a terminal, while there are jobs to do.

    Meanwhile what the process writes to stderr, or to stdout on a terminal, goes above the lines;
    so do the messages of `messages`.
    """

    def __init__(self, progress: Progress, messages: StreamHandler, no_color: bool) -> None:
        self._progress = progress
        self._messages = messages
        console = Console(
            file=sys.stderr,
            force_terminal=True,
            no_color=no_color or None,  # None: as the environment says (NO_COLOR)
            soft_wrap=True,  # a long path above the lines stays in one piece
            markup=False,
            emoji=False,
            highlight=False,
        )
        self._live = Live(
            console=console,
            get_renderable=self._table,
            redirect_stdout=sys.stdout.isatty(),
        )

    def update(self, changed: str | None) -> None:
        """Start once there are stages; end when all are complete, so that results come below."""
        if self._progress.is_complete():
            self.close()
        elif not self._live.is_started:
            self._live.start()
            self._messages.setStream(sys.stderr)

    def close(self) -> None:
        """Leave the last state on the screen, and the screen to others."""
        if self._live.is_started:
            self._live.stop()
            self._messages.setStream(sys.stderr)

    def _table(self) -> Table:
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
