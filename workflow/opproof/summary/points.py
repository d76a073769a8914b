"""How many points a curve is drawn with: what a page of 1 MB has room for."""

_OF_A_CURVE, _OF_A_FIGURE = 200, 8_000
_FEWEST = 25


def of_a_curve(curves: int) -> int:
    """Return the most points for each of so many curves in a figure."""
    return min(_OF_A_CURVE, max(_FEWEST, _OF_A_FIGURE // curves))
