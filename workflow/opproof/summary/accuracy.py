"""The errors of the operators in float32, by region of x, a row a backend."""

from typing import Any

from opproof import ulp
from opproof.summary import verdicts
from opproof.summary.table import NOTHING, Section, Table, number

_DIRECTIONS = ("forward", "backward")
_TITLE = "Accuracy, float32: error in ULP by region of x"
_TEXT = (
    "The largest errors on [-12, 12], forward / backward, against the truth: of GELU "
    "x erfc(-x/√2)/2 in float64, of another activation its reference in float64. References in "
    "torch, as F.gelu, which is the backend torch, have rows of their own. A unit in the last "
    "place (ULP) is the distance between neighbouring floats at the true value. Within 0.3 of a "
    "root, as of GELU's derivative at -0.7518, where these units vanish, the error is absolute, "
    "and is in no region. A backend is refused for its largest absolute error, and for more ULP "
    "than it claims; the rest is shown only."
)


def section(summary: dict[str, Any]) -> Section:
    """Return the table, a row each reference too; without rows where nothing was measured."""
    measured = [
        (name, errors["float32"])
        for name, _, errors in verdicts.beside_yardsticks(summary, "accuracy")
        if "float32" in errors
    ]
    claims = {
        backend["name"]: verdicts.claim(backend["verification"])
        for backend in summary["results"]["backends"]
        if backend["op"] != backend["reference"]
    }
    regions = list(measured[0][1]["forward"]["regions"]) if measured else []
    columns = ["backend", *regions, "worst", "near a root", "largest absolute", "claimed"]
    rows = [_row(name, errors, claims.get(name)) for name, errors in measured]
    tables = [Table("ULP, forward / backward", columns, rows)] if rows else []
    return Section(_TITLE, f"{_TEXT} {_textbook(summary)}", tables)


def _row(name: str, errors: dict[str, Any], claimed: float | None) -> list[str]:
    forward, backward = (
        [*(row["ulp"] for row in of["regions"].values()), ulp.worst_of(of), of["max_absolute"]]
        for of in (errors[direction] for direction in _DIRECTIONS)
    )
    *in_ulp, absolute = (
        f"{number(a)} / {number(b)}" for a, b in zip(forward, backward, strict=True)
    )
    near_roots = (errors[direction]["near_root"] for direction in _DIRECTIONS)
    near_root = [number(one["absolute"]) for one in near_roots if one["x"] is not None]
    near = " / ".join(near_root) or NOTHING
    return [name, *in_ulp, near, absolute, NOTHING if claimed is None else f"≤ {claimed:g}"]


def _textbook(summary: dict[str, Any]) -> str:
    figures = ", ".join(
        f"{backend['name']} {number(backend['verification']['gradient_mse'])}"
        for backend in summary["results"]["backends"]
        if "gradient_mse" in backend["verification"]
    )
    return (
        "The textbook's figure, the mean squared difference between a backend's gradients and its "
        f"reference's in torch at 100 normal samples: {figures}."
    )
