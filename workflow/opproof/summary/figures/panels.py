"""Panels of one size, a backend each, side by side: as many as there are backends."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from opproof.summary.figures import theme

_GAP = 14
_MANY = 8


def of_backends(layers: Any, names: Sequence[str]) -> Any:
    """Return the layers, whose data has a column `backend`, as a panel for each of the names."""
    columns = min(len(names), 2 if len(names) <= _MANY else 3)
    width = (theme.WIDTH - (columns - 1) * _GAP) / columns
    return (
        layers.properties(width=width, height=120 if columns < 3 else 80)
        .facet(facet=alt.Facet("backend:N", sort=list(names), title=None), columns=columns)
        .resolve_axis(x="independent")
        .properties(bounds="flush", spacing={"row": 42, "column": _GAP})
    )
