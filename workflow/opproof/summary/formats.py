"""The summary as Markdown and as CSV, and the sections that come after the first table."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from opproof import ulp
from opproof.summary import (
    accuracy,
    findings,
    overall,
    overview,
    speed,
    training,
    training_compared,
    verdicts,
)
from opproof.summary.headlines import headlines
from opproof.summary.pairs import PREDICTIONS
from opproof.summary.table import Section

_DIRECTIONS = ("forward", "backward")


def sections(summary: dict[str, Any]) -> list[Section]:
    """Return the sections, in order, of which there is something to show."""
    every = (
        module.section(summary)
        for module in (training_compared, accuracy, findings, speed, training)
    )
    return [section for section in every if section.tables]


def as_markdown(summary: dict[str, Any]) -> str:
    """Return the verdicts, the table with its notes and what it is of, then the sections."""
    whole = overall.table(summary)
    lines = [f"- **{name}**: {verdict}" for name, verdict in headlines(summary)]
    lines += ["", *_table(whole.columns, whole.rows)]
    lines += ["", *(f"- {note}" for note in overview.notes(summary))]
    lines += ["", f"{overview.subject(summary)} {whole.caption}"]
    for section in sections(summary):
        lines += ["", f"## {section.title}"]
        for table in section.tables:
            lines += ["", f"**{table.caption}**", "", *_table(table.columns, table.rows)]
        lines += ["", section.text]
    return "\n".join([*lines, ""])


def as_csv(summary: dict[str, Any]) -> str:
    """Return a row per backend in CSV, figures unrounded, empty where there is none."""
    rows = [_figures(summary, backend) for backend in summary["results"]["backends"]]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _figures(summary: dict[str, Any], backend: dict[str, Any]) -> dict[str, Any]:
    verification = backend["verification"]
    trained = backend["accuracy"] or {}
    training = summary["measurements"]["training"][backend["name"]]
    return {
        "backend": backend["name"],
        "verdict": verification["verdict"],
        "expected_verdict": verification["expected"],
        **{f"ulp_{way}": worst for way, worst in ulp.worst(verification).items()},
        "ulp_claimed": verdicts.claim(verification),
        "findings_not_held": verdicts.count_not_held(verification),
        "accuracy_mean_percent": trained.get("mean"),
        "accuracy_low": trained.get("low"),
        "accuracy_high": trained.get("high"),
        "seeds_ok": backend["seeds_ok"],
        "seeds_planned": backend["seeds_planned"],
        **_comparison(backend["comparison"]),
        "seconds_per_epoch": training["seconds_per_epoch"],
        **_ratios(summary, backend["name"]),
        "notes": "; ".join(overview.notes_on(summary, backend)),
    }


def _comparison(comparison: dict[str, Any] | None) -> dict[str, Any]:
    """Return what the runs are beside the baseline's; of the baseline, nothing."""
    found = comparison or {"churn": {}, "flags": []}
    figures = {
        f"difference_{key}" if key in ("mean", "low", "high") else key: found.get(key)
        for key in ("mean", "low", "high", "p_equivalent", "p_different", "provable_margin")
    }
    churn = {
        f"churn_{epoch}": (found["churn"].get(epoch) or {}).get("mean") for epoch in PREDICTIONS
    }
    flags = "; ".join(found["flags"]) or None
    return {"training_verdict": found.get("verdict"), **figures, **churn, "flags": flags}


def _ratios(summary: dict[str, Any], backend: str) -> dict[str, float | None]:
    """Return the ratios for 1e6 values with their intervals; none for torch, their yardstick."""
    figures = {}
    for direction in _DIRECTIONS:
        row = speed.row_of_a_million(summary, backend, direction)
        for name in ("mean", "low", "high"):
            figures[f"ratio_{direction}_1e6_{name}"] = row["ratio"][name] if row else None
    return figures


def _table(columns: Sequence[str], rows: list[list[str]]) -> list[str]:
    return [_row(columns), _row(["---"] * len(columns)), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
