"""The data of an SVG path, made short: relative, to a tenth of a unit, moved to its place."""

import re
from collections.abc import Iterator, Sequence

_COMMAND = re.compile(r"([A-Za-z])([^A-Za-z]*(?:e-?\d[^A-Za-z]*)*)")
_NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:e-?\d+)?")

_NUMBERS = {"M": 2, "L": 2, "H": 1, "V": 1, "A": 7, "Z": 0}  # that a command takes
_AGAIN = {"M": "L", "m": "l"}  # what a command without its letter is, after these


def short(data: str, x: float = 0.0, y: float = 0.0) -> str:
    """Return path data moved by (x, y). Takes what Vega writes: M, L, H, V, A and Z, or relative.

    Points are rounded, not the ways between them: errors do not add up.
    """
    written: list[str] = []
    last = ""
    exact = start = (x, y)
    drawn = (0, 0)
    for letter, numbers in _commands(data):
        kind = letter.upper()
        exact = start if kind == "Z" else _end(letter, numbers, exact, (x, y))
        point = (round(10 * exact[0]), round(10 * exact[1]))
        name, values = _relative(kind, numbers, point, drawn)
        drawn = point
        if kind == "M":
            start = exact
        if name:
            written.append(_text(name if name != last else "", values))
            last = name
    return "".join(written)


def _commands(data: str) -> Iterator[tuple[str, list[float]]]:
    for letter, text in _COMMAND.findall(data):
        numbers = [float(number) for number in _NUMBER.findall(text)]
        size = _NUMBERS[letter.upper()]
        if not size:
            yield letter, []
        for start in range(0, len(numbers), size or 1):
            yield letter if not start else _AGAIN.get(letter, letter), numbers[start : start + size]


def _end(
    letter: str, numbers: Sequence[float], at: tuple[float, float], origin: tuple[float, float]
) -> tuple[float, float]:
    """Return where a command ends, that begins at `at`; absolute numbers count from `origin`."""
    from_x, from_y = at if letter.islower() else origin
    if letter in "Hh":
        return from_x + numbers[0], at[1]
    if letter in "Vv":
        return at[0], from_y + numbers[0]
    return from_x + numbers[-2], from_y + numbers[-1]


def _relative(
    kind: str, numbers: Sequence[float], point: tuple[int, int], drawn: tuple[int, int]
) -> tuple[str, list[int]]:
    """Return the shortest command, its numbers in tenths; no name where there is nothing to do."""
    across, down = point[0] - drawn[0], point[1] - drawn[1]
    if kind == "M":
        return "M", [*point]
    if kind == "Z":
        return "z", []
    if kind == "A":
        return "a", [*(round(10 * number) for number in numbers[:-2]), across, down]
    if across and down:
        return "l", [across, down]
    if across:
        return "h", [across]
    return ("v", [down]) if down else ("", [])


def _text(name: str, tenths: Sequence[int]) -> str:
    text = name
    for number in map(_number, tenths):
        text += number if number.startswith("-") or text[-1:].isalpha() else f" {number}"
    return text


def _number(tenths: int) -> str:
    text = f"{tenths / 10:g}"
    return text.replace("0.", ".") if abs(tenths) < 10 else text
