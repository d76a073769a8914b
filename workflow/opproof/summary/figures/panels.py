"""Panels of one size, side by side and below one another: as many as there are."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from opproof.summary.figures import theme

_GAP = 20
_MANY = 8


def panels(layers: Any, field: str, names: Sequence[str], columns: int | None = None) -> Any:
    """Return the layers as a panel for each of the names, which a field of their data has.

    In so many columns, or else in two, or three if there are many.
    """
    columns = columns or min(len(names), 2 if len(names) <= _MANY else 3)
    width = (theme.WIDTH - (columns - 1) * _GAP) / columns
    return (
        layers.properties(width=width, height=120 if len(names) <= _MANY else 80)
        .facet(
            facet=alt.Facet(
                f"{field}:N", sort=list(names), title=None, header=alt.Header(labelLimit=width)
            ),
            columns=columns,
        )
        .resolve_axis(x="independent")
        .properties(bounds="flush", spacing={"row": 42, "column": _GAP})
    )
