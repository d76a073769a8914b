"""The report page: one self-contained HTML file, readable without JavaScript or network."""

import json
from typing import Any

import jinja2

from opproof.backends import BASELINE
from opproof.paths import TEMPLATES
from opproof.summary import tables


def render(summary: dict[str, Any]) -> str:
    """Return the page; the same text for the same summary."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        columns=tables.COLUMNS,
        rows=tables.rows(summary),
        notes=tables.notes(summary),
        caption=tables.caption(summary),
        accuracy_rows=_accuracy_rows(summary),
        regions=_regions(summary),
        verdict_in_words=tables.verdict_in_words,
        provenance_text=json.dumps(summary["provenance"], indent=2, ensure_ascii=False),
        **summary,
    )


def _regions(summary: dict[str, Any]) -> list[str]:
    """Return the names of the regions of x, of the first backend that was measured."""
    for row in _accuracy_rows(summary):
        return list(row["regions"])
    return []


def _accuracy_rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the float32 errors by region: a row per direction of F.gelu and of each backend."""
    backends = summary["results"]["backends"]
    measured = [
        (backend["name"], backend["verification"]["accuracy"])
        for backend in backends
        if backend["verification"].get("accuracy")
    ]
    if measured and BASELINE not in dict(measured):
        baseline = next(
            backend["verification"]["baseline_accuracy"]
            for backend in backends
            if backend["name"] == measured[0][0]
        )
        measured.insert(0, ("F.gelu", baseline))
    return [
        {"backend": name, "direction": direction, **errors}
        for name, accuracy in measured
        for direction, errors in accuracy.get("float32", {}).items()
    ]
