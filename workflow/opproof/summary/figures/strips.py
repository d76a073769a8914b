"""Rows below one another: each a name, words, and on a strip values, their mean, its interval."""

from functools import partial
from typing import Any

import altair as alt
import pandas as pd

from opproof.summary.figures import theme

_HEADING, _STRIP, _GAP = 18, 22, 8
_ROW = _HEADING + _STRIP + _GAP

# A value is a short upright stroke: there may be thousands, and nothing takes less room in a page.
VALUE: theme.Form = {"color": theme.BLUE, "strokeWidth": 1.6, "opacity": 0.8}
_LENGTH = 6
_NAME = 170  # that a name may be wide, beside the words
GROUND: theme.Form = {"color": theme.INK, "opacity": 0.06}
MEAN: theme.Form = {
    "color": theme.INK,
    "filled": True,
    "shape": "diamond",
    "size": 80,
    "opacity": 1,
}
INTERVAL: theme.Form = {"color": theme.INK, "strokeWidth": 2}

# Values of a row are spread over its strip so that few of them meet: in the golden ratio, as any
# number of them then lies evenly.
_GOLDEN = (5**0.5 - 1) / 2


def chart(
    data: pd.DataFrame, single: str | None, x: alt.X, limits: list[float], bars: bool = False
) -> Any:
    """Return the rows above the axis of x, which has its scale too, dashed at the limits.

    With bars from the first limit to the means, if wanted.

    data: of each row first its mean, where the column named `single` is missing, with `backend`,
    `words`, `value`, `low` and `high` (missing without an interval); then its single values.
    Without `single` there are means alone.
    """
    means = data[single].isna() if single else pd.Series(True, index=data.index)
    row, number = means.cumsum() - 1, data.groupby(means.cumsum()).cumcount()
    middle = _ROW * row + _HEADING + _STRIP / 2
    lift = (_STRIP - _LENGTH - 2) * (number * _GOLDEN % 1 - 0.5)
    top = middle - _STRIP / 2
    placed = data.assign(
        middle=middle,
        top=top.where(means, middle + lift - _LENGTH / 2),
        bottom=(top + _STRIP).where(means, middle + lift + _LENGTH / 2),
        heading=top - 8,
    )

    at = partial(theme.of_column, x)

    def down(column: str) -> alt.Y:
        return alt.Y(f"{column}:Q", scale=None, axis=None)

    values = alt.Chart(placed[~means])
    rows = alt.Chart(placed[means])
    texts = rows.encode(down("heading"))
    layers = alt.layer(
        rows.mark_rect(**GROUND).encode(down("top"), alt.Y2("bottom")),
        *[
            rows.transform_calculate(limit=str(limits[0]))
            .mark_rect(**theme.BAND)
            .encode(at("limit"), down("top"), alt.X2("value"), alt.Y2("bottom"))
        ]
        * bars,
        *(
            rows.transform_calculate(limit=str(limit))
            .mark_rule(**theme.LIMIT)
            .encode(at("limit"), down("top"), alt.Y2("bottom"))
            for limit in limits
        ),
        values.mark_rule(**VALUE).encode(at("value"), down("top"), alt.Y2("bottom")),
        rows.transform_filter("isValid(datum.low)")
        .mark_rule(**INTERVAL)
        .encode(at("low"), down("middle"), alt.X2("high")),
        rows.mark_point(**MEAN).encode(at("value"), down("middle")),
        texts.mark_text(align="left", baseline="middle", fontWeight="bold", limit=_NAME).encode(
            x=alt.value(0), text="backend:N"
        ),
        texts.mark_text(align="right", baseline="middle").encode(
            x=alt.value(theme.WIDTH), text="words:N"
        ),
    )
    return layers.properties(width=theme.WIDTH, height=_ROW * int(means.sum()))


def ratios(values: pd.Series) -> alt.X:
    """Return scale and axis of x for ratios of times, logarithmic, a times sign after labels."""
    label = f"datum.label + '{theme.TIMES}'"
    return alt.X(
        scale=alt.Scale(type="log", nice=False, padding=8),
        axis=alt.Axis(**theme.STRIP_AXIS, values=theme.log_ticks(values), labelExpr=label),
    )
