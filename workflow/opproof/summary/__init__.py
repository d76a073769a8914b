"""The summary stage: aggregates what there is into tables, figures and a page."""

import argparse
import shutil
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from opproof import arguments, artifact
from opproof.settings import Settings
from opproof.summary import formats, overview, page, parquet
from opproof.summary.collect import collect
from opproof.summary.curves import Curves
from opproof.summary.figures import figures

# What takes less room where there is less, as in a log of 80 columns, so that nothing is cut off:
# the gaps between columns, and columns that are wrapped, to so many characters at least.
_WIDE = 100
_WRAPPED = {"backend": 7, "verdict": 8, "interval": 8}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `opproof summary`."""
    arguments.add_config(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--show", action="store_true", help="only show the table of the last summary")
    how.add_argument(
        "--partial",
        action="store_true",
        help="of a run that failed: write into OUTPUT/partial-summary/",
    )


def main(args: argparse.Namespace) -> int:
    """Write the summary and show its table, or only show it; return 0."""
    settings = arguments.read_settings(args)
    output = Path(settings.output)
    if args.show:
        show(artifact.read_json(output / "summary.json"), output)
        return 0
    if args.partial:
        # Not in the place of the whole summary, which Snakemake would then take for done.
        output = output / "partial-summary"
    summary = write(settings, output)
    show(summary, output)
    return 0


def write(settings: Settings, folder: Path) -> dict[str, Any]:
    """Write the files of the summary of what there is, their digests into summary.json; return it.

    Raises UserError if they can't be written.
    """
    curves, parquet_file = Curves(settings), folder / "curves.parquet"
    with parquet.writing(parquet_file, settings) as add:
        summary = collect(settings, (curves.add, add))
    drawn = figures(summary, curves.frames())
    texts = {
        "summary.csv": formats.as_csv(summary),
        "summary.md": formats.as_markdown(summary),
        "report.html": page.render(summary, drawn),
        **{f"figures/{figure.name}.svg": figure.svg for figure in drawn},
        **{f"figures/{figure.name}.csv": figure.as_csv() for figure in drawn},
    }
    shutil.rmtree(folder / "figures", ignore_errors=True)  # those of before, which may be others
    (folder / "figures").mkdir()
    files = {name: artifact.write_bytes(folder / name, texts[name].encode()) for name in texts}
    files[parquet_file.name] = artifact.file_digest(parquet_file)
    artifact.write_json(folder / "summary.json", {**summary, "files": files})
    return summary


def show(summary: dict[str, Any], folder: Path) -> None:
    """Print the first table, the notes, what it is of, and where in `folder` the report is."""
    console = Console(emoji=False)
    gap = 0 if console.width < _WIDE else 1
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, gap, 0, 0))
    for key, heading in overview.COLUMNS.items():
        width = _WRAPPED.get(key)
        table.add_column(heading, no_wrap=width is None, min_width=width, overflow="fold")
    for row in overview.rows(summary):
        table.add_row(*(row[key] for key in overview.COLUMNS))
    console.print(table)
    for line in (*overview.notes(summary), overview.caption(summary)):
        console.print(line, highlight=False, markup=False)
    console.print(
        f"Report: {(folder / 'report.html').absolute()}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
