"""A table, and sections of tables, that every format of the summary has; and numbers in them."""

import math
from dataclasses import dataclass

NOTHING = "-"


@dataclass(frozen=True)
class Table:
    """Cells as text, the first of a row its name; `caption` says what is in them."""

    caption: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Section:
    """Tables under one title, and in `text` what holds for all of them."""

    title: str
    text: str
    tables: list[Table]


def number(value: float | str | None) -> str:
    """Word a number shortly: 2.6, 110, 1.7e7; a record has "inf" and "nan" as text."""
    if value is None:
        return NOTHING
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 0.1 <= abs(value) < 9.95:
        return f"{value:.1f}"
    if 1 <= abs(value) < 999.5:
        return f"{value:.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"
