"""A table, and sections of tables, that every format of the summary has; and numbers in them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

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


def one_name(names: Iterable[str], else_word: str) -> str:
    """Return the name that all are, or the word where they are several."""
    different = {*names}
    return different.pop() if len(different) == 1 else else_word


def with_interval(found: dict[str, Any] | None, form: str) -> str:
    """Word a mean and its interval, "1.25 [1.20, 1.30]", in a format such as ".2f".

    `found` has "mean", "low" and "high"; the latter two are None where there is no interval.
    """
    if found is None:
        return NOTHING
    mean, low, high = found["mean"], found["low"], found["high"]
    interval = "" if low is None else f" [{low:{form}}, {high:{form}}]"
    return f"{mean:{form}}{interval}"
