"""The report page: one self-contained HTML file, readable without JavaScript or network."""

import json
from typing import Any

import jinja2

from opproof.paths import TEMPLATES
from opproof.summary import formats, overview, verdicts


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
        columns=list(overview.COLUMNS.values()),
        rows=[list(row.values()) for row in overview.rows(summary)],
        notes=overview.notes(summary),
        caption=overview.caption(summary),
        sections=formats.sections(summary),
        verdict_in_words=verdicts.in_words,
        provenance_text=json.dumps(summary["provenance"], indent=2, ensure_ascii=False),
        **summary,
    )
