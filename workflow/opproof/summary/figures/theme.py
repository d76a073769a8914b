"""How every figure looks: two colours, told apart by form too, on the page's own background.

A backend is blue, in a panel or a row of its own with its name; what it is held against is dashed,
in the colour of the text (F.gelu, the baseline) or in vermilion (a limit, as the margin).
"""

import math
from typing import Any

import altair as alt
import pandas as pd

from opproof.summary.figures.svg import INK

# Of Okabe and Ito's palette, blue a little lighter: at least 3:1 against white and against #16181d.
BLUE = "#1a7fc1"
VERMILION = "#d55e00"

# What all panels of a row have together, in units of the drawing: text is 12 of them high, so that
# it can be read where the page is a phone's.
WIDTH = 420

Form = dict[str, Any]  # properties of a mark

_TOLD = 12  # entries of a description
# Of the labels of a log axis; the coarsest that are enough are taken.
_DIGITS = (
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 1.5, 2, 3, 5, 7),
    [tenths / 10 for tenths in range(10, 100)],
)
_FEWEST_TICKS = 3

_SWATCH = 22
_MEASURED = "Liberation Sans"  # has the widths of FONT's fonts; Vega's renderer brings it along


def applied(chart: Any) -> Any:
    """Return the chart with the theme; for the outermost chart alone."""
    return (
        chart.configure(
            background="transparent",
            font=_MEASURED,
            padding={"left": 8, "right": 12, "top": 4, "bottom": 4},
        )
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=INK,
            titleColor=INK,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            titlePadding=6,
            labelPadding=4,
            labelFlush=False,
            labelOverlap=True,
            gridColor=INK,
            gridOpacity=0.14,
            domain=False,
            ticks=False,
        )
        .configure_header(
            labelColor=INK,
            labelFontSize=13,
            labelFontWeight="bold",
            labelAnchor="start",
            labelPadding=3,
            title=None,
        )
        .configure_title(color=INK, fontSize=13, anchor="start", offset=4)
        .configure_text(color=INK, fontSize=12)
        .configure_rule(color=INK)
    )


# What a form stands for in every figure.
LINE: Form = {"color": BLUE, "strokeWidth": 1.8}
POINT: Form = {"color": BLUE, "filled": True, "size": 22, "opacity": 1}
FAINT: Form = {"color": BLUE, "strokeWidth": 0.8, "opacity": 0.35}
BAND: Form = {"color": BLUE, "opacity": 0.22}
BASELINE: Form = {"color": INK, "strokeWidth": 1, "strokeDash": [3, 3], "opacity": 0.85}
LIMIT: Form = {"color": VERMILION, "strokeWidth": 1.3, "strokeDash": [2, 2]}


# Of a row of strips, that have no grid behind them.
STRIP_AXIS: Form = {"grid": False, "ticks": True, "tickCount": 5, "tickColor": INK}

TIMES = "\N{MULTIPLICATION SIGN}"


def log_ticks(values: pd.Series) -> list[float]:
    """Return round numbers in the range of positive values for a log axis, no more than needed."""
    low, high = values.min(), values.max()
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside: list[float] = []
    for digits in _DIGITS:
        ticks = (float(f"{digit}e{power}") for power in powers for digit in digits)
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= _FEWEST_TICKS:
            break
    return inside


def of_column(channel: Any, column: str) -> Any:
    """Return the channel's scale and axis for a quantitative column of the data, untitled."""
    encoding = type(channel)
    return encoding(f"{column}:Q", title=None, scale=channel["scale"], axis=channel["axis"])


def listed(words: list[str]) -> str:
    """Return them in one sentence, of many the first: nobody listens to a hundred."""
    more = len(words) - _TOLD
    return "; ".join(words[:_TOLD]) + (
        f"; and {more} more, which the data has." if more > 0 else "."
    )


def below_key(drawn: Any, axes: str, *entries: tuple[str, Form, str]) -> Any:
    """Return what is drawn below a key: what the axes are, and what marks stand for.

    An entry is a mark ("rule", "upright", "rect", "point"), its form, and words.
    """
    layers = [_words(axes, 0, 7)]
    for number, (mark, form, words) in enumerate(entries):
        x, y = WIDTH // 2 * (number % 2), 26 + 17 * (number // 2)
        layers += [_swatch(mark, form, x, y), _words(words, x + _SWATCH + 6, y)]
    key = alt.layer(*layers).properties(width=WIDTH, height=y + 7)
    return alt.vconcat(key, drawn, spacing=10)


def _words(words: str, x: int, y: int) -> alt.Chart:
    text = alt.Chart(alt.Data(values=[{}])).mark_text(align="left", baseline="middle", text=words)
    return text.encode(x=alt.value(x), y=alt.value(y))


def _swatch(mark: str, form: Form, x: int, y: int) -> alt.Chart:
    chart = alt.Chart(alt.Data(values=[{}]))
    if mark == "point":
        return chart.mark_point(**form).encode(x=alt.value(x + _SWATCH / 2), y=alt.value(y))
    if mark == "upright":
        return chart.mark_rule(**form).encode(
            x=alt.value(x + _SWATCH / 2), y=alt.value(y - 4), y2=alt.value(y + 4)
        )
    if mark == "rect":
        return chart.mark_rect(**form).encode(
            x=alt.value(x), x2=alt.value(x + _SWATCH), y=alt.value(y - 6), y2=alt.value(y + 6)
        )
    return chart.mark_rule(**form).encode(x=alt.value(x), x2=alt.value(x + _SWATCH), y=alt.value(y))
