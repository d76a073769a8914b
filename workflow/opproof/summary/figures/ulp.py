"""The float32 error along x, in units in the last place, with the reference beside it."""

from functools import partial
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from opproof.summary import points, verdicts
from opproof.summary.figures import theme
from opproof.summary.figures.figure import Figure, draw
from opproof.summary.figures.panels import panels
from opproof.summary.table import number, one_name

_DIRECTIONS = ("forward", "backward")
_LIMIT = 12.0  # of |x|: the profile's equal parts cover [-12, 12]

# What is drawn at the edges: errors are from 0 to infinity, the scale is logarithmic.
_LEAST, _MOST = 0.25, 1e9


def ulp(summary: dict[str, Any]) -> Figure | None:
    """Return the figure of the summary, None where nothing was verified in float32."""
    measured = [
        (name, reference, errors["float32"])
        for name, reference, errors in verdicts.beside_yardsticks(summary, "accuracy")
        if "profile" in errors.get("float32", {}).get("forward", {})
    ]
    if not measured:
        return None
    profiles = {
        name: {direction: errors[direction]["profile"] for direction in _DIRECTIONS}
        for name, _, errors in measured
    }
    references = {name: reference for name, reference, _ in measured}
    claims = {
        backend["name"]: verdicts.claim(backend["verification"])
        for backend in summary["results"]["backends"]
    }
    data = _data(profiles, references, claims)
    yardstick = one_name(references.values(), "its reference in torch")
    chart = theme.below_key(
        _drawn(data),
        "largest float32 error in ULP by x, log scale",
        ("rule", theme.LINE, "the backend"),
        ("rule", theme.BASELINE, yardstick),
        *[("rule", theme.LIMIT, "what the backend claims")] * bool(data.claimed.notna().any()),
    )
    return draw(
        "ulp", "Error in ULP along x, float32", _described(profiles, yardstick), chart, data
    )


def _data(
    profiles: dict[str, dict[str, list[Any]]],
    references: dict[str, str],
    claims: dict[str, float | None],
) -> pd.DataFrame:
    """Return the errors with the reference's, in the others' rows, and the claims."""
    most = points.of_a_curve(2 * len(_DIRECTIONS) * len(profiles))
    frames = []
    for name, of in profiles.items():
        for direction in _DIRECTIONS:
            x, errors = _thinned(of[direction], most)
            frame = pd.DataFrame({"backend": name, "direction": direction, "x": x, "ulp": errors})
            frame["ulp_of_reference"] = np.nan
            if name != references[name] and references[name] in profiles:
                own = profiles[references[name]][direction]
                frame["ulp_of_reference"] = _thinned(own, most)[1]
            frames.append(frame.assign(claimed=claims.get(name)))
    return pd.concat(frames, ignore_index=True).astype({"claimed": float})


def _thinned(profile: list[Any], most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the middles of so many spans at most, and the largest errors; NaN without points."""
    together = -(-len(profile) // most)
    errors = np.array([np.nan if part is None else float(part) for part in profile])
    starts = np.arange(0, len(errors), together)
    ends = np.append(starts[1:], len(errors))
    return (starts + ends) * _LIMIT / len(errors) - _LIMIT, np.fmax.reduceat(errors, starts)


def _drawn(data: pd.DataFrame) -> Any:
    panel = data.backend + ", " + data.direction
    values = ["ulp", "ulp_of_reference"]
    clipped = data.assign(**data[values].clip(_LEAST, _MOST), panel=panel)
    x = alt.X(
        "x:Q", title=None, scale=alt.Scale(nice=False), axis=alt.Axis(values=[-10, -5, 0, 5, 10])
    )
    scale = alt.Scale(type="log", nice=False, domainMin=_LEAST)
    axis = alt.Axis(values=[1, 100, 1e4, 1e6, 1e8], format="~s")
    y = partial(theme.of_column, alt.Y(scale=scale, axis=axis))
    rows = alt.Chart(clipped)
    claimed = rows.transform_filter("isValid(datum.claimed)")
    layers = alt.layer(
        rows.mark_line(**theme.LINE).encode(x, y("ulp")),
        rows.mark_line(**theme.BASELINE).encode(x, y("ulp_of_reference")),
        claimed.mark_line(**theme.LIMIT).encode(x, y("claimed")),
    )
    return panels(layers, "panel", [*panel.unique()], columns=len(_DIRECTIONS))


def _described(profiles: dict[str, dict[str, list[Any]]], yardstick: str) -> str:
    worst = [
        f"{name} {' and '.join(number(_worst(of[direction])) for direction in _DIRECTIONS)}"
        for name, of in profiles.items()
    ]
    return (
        "Two panels for each operator, forward and backward: the largest "
        f"error in each part of [-12, 12], with {yardstick}'s dashed in the others'. What is below "
        "a quarter or above 1e9 is drawn at the edge; near a root, as of GELU's derivative at "
        "-0.75, units vanish and there is none. The largest, forward and backward, in ULP: "
        f"{theme.listed(worst)}"
    )


def _worst(profile: list[Any]) -> float:
    return max(float(part) for part in profile if part is not None)
