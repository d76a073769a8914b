"""The summary stage: aggregates what there is into summary.{json,csv,md} and report.html."""

import argparse
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from opproof import arguments, artifact
from opproof.settings import Settings
from opproof.summary import page, tables
from opproof.summary.collect import collect


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `opproof summary`."""
    arguments.add_config(parser)
    parser.add_argument(
        "--show", action="store_true", help="only show the table of the last summary"
    )


def main(args: argparse.Namespace) -> int:
    """Write the summary and show its table, or only show it; return 0."""
    settings = arguments.read_settings(args)
    if args.show:
        summary = artifact.read_json(Path(settings.output) / "summary.json")
    else:
        summary = write(settings)
    show(summary, Path(settings.output))
    return 0


def write(settings: Settings) -> dict[str, Any]:
    """Write the summary's files and return it. Raises UserError if they can't be written."""
    summary = collect(settings)
    output = Path(settings.output)
    artifact.write_bytes(output / "summary.csv", tables.as_csv(summary).encode())
    artifact.write_bytes(output / "summary.md", tables.as_markdown(summary).encode())
    artifact.write_bytes(output / "report.html", page.render(summary).encode())
    artifact.write_json(output / "summary.json", summary)
    return summary


def show(summary: dict[str, Any], output: Path) -> None:
    """Print the table, the notes, what it is of, and where the report is."""
    table = Table(box=box.SIMPLE_HEAD, title="OpProof", title_justify="left")
    for heading in tables.COLUMNS.values():
        table.add_column(heading, overflow="fold")
    for row in tables.rows(summary):
        table.add_row(*(row[key] for key in tables.COLUMNS))
    console = Console()
    console.print(table)
    for line in (*tables.notes(summary), tables.caption(summary)):
        console.print(line, highlight=False, markup=False)
    console.print(
        f"Report: {(output / 'report.html').absolute()}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
