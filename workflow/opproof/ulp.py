"""The largest float32 error in units in the last place (ULP) that a verification has found."""

from typing import Any

_DIRECTIONS = ("forward", "backward")


def worst(verification: dict[str, Any]) -> dict[str, float | None]:
    """Return the largest error per direction, None where there is none."""
    errors = verification.get("accuracy", {}).get("float32")
    return {direction: worst_of(errors[direction]) if errors else None for direction in _DIRECTIONS}


def worst_of(errors: dict[str, Any]) -> float:
    """Return the largest error of a direction over the regions of x."""
    return max(float(row["ulp"]) for row in errors["regions"].values())
