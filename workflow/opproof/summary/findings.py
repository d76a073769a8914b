"""What was found of the operators besides and refuses none: a row a finding."""

from typing import Any

from opproof.summary import verdicts
from opproof.summary.table import NOTHING, Section, Table

_TEXT = (
    "Whether a property holds, and what was seen where it does not. None of these refuses a "
    "backend; summary.json has the details also of what holds, and why something was not checked."
)


def section(summary: dict[str, Any]) -> Section:
    """Return the table, a column each reference too; without tables where nothing was found."""
    found = verdicts.beside_yardsticks(summary, "findings")
    properties = list(dict.fromkeys(name for _, _, findings in found for name in findings))
    columns = ["property", *(name for name, _, _ in found)]
    rows = [[name, *(_word(findings.get(name)) for _, _, findings in found)] for name in properties]
    return Section("Findings", _TEXT, [Table("Does it hold?", columns, rows)] if rows else [])


def _word(finding: dict[str, Any] | None) -> str:
    if finding is None:
        return NOTHING
    if finding["holds"] is None:
        return "not checked"
    if finding["holds"]:
        return "yes"
    return f"no: {finding['detail']}" if finding["detail"] else "no"
