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

# So many runs and jobs are listed: 1 MB has no room for 10,000; summary.json has them all.
_RUNS, _JOBS = 2000, 200


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
        listed=_listed_runs(summary),
        provenance_text=json.dumps(_shortened(summary), indent=2, ensure_ascii=False),
        **summary,
    )


def _listed_runs(summary: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return backend and run, in their order; of very many those that failed before the others."""
    runs = [
        (backend["name"], run)
        for backend in summary["results"]["backends"]
        for run in backend["runs"]
    ]
    first = sorted(range(len(runs)), key=lambda index: runs[index][1]["failure"] is None)
    return [runs[index] for index in sorted(first[:_RUNS])]


def _shortened(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the provenance, of very many jobs that of the first."""
    jobs = summary["provenance"]["jobs"]
    more = [f"and {len(jobs) - _JOBS} more, in summary.json"] if len(jobs) > _JOBS else []
    return {**summary["provenance"], "jobs": [*jobs[:_JOBS], *more]}
