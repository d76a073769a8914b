"""The report page: one self-contained HTML file, readable without JavaScript or network."""

import json
from collections.abc import Sequence
from typing import Any

import jinja2

from opproof.paths import TEMPLATES
from opproof.settings import from_dict
from opproof.summary import formats, overall, overview
from opproof.summary.figures import Figure
from opproof.summary.headlines import headlines
from opproof.summary.reproduction import configuration


def render(summary: dict[str, Any], figures: Sequence[Figure]) -> str:
    """Return the page; the same text for the same summary and figures."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        headlines=headlines(summary),
        whole=overall.table(summary),
        subject=overview.subject(summary),
        notes=overview.notes(summary),
        figures=figures,
        sections=formats.sections(summary),
        configuration=configuration(from_dict(summary["provenance"]["configuration"])),
        provenance_text=json.dumps(summary["provenance"], indent=2, ensure_ascii=False),
        **summary,
    )
