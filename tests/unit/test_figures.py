"""The figures of the report: what is drawn, small, the same each time, for every reader."""

import hashlib
import io
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from opproof import config
from opproof.summary import points
from opproof.summary.curves import Curves
from opproof.summary.figures import Figure, figures, theme
from opproof.summary.figures.paths import short
from opproof.summary.figures.svg import tidy
from tests.unit.summaries import measured, row

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = ["differences", "accuracy", "loss", "ulp", "blocks", "bandwidth", "ladder"]
SIZES = (64, 4096, 1_000_000)
SVG = "{http://www.w3.org/2000/svg}"
NUMBER = r"-?[\d.]+"


def backends(count: int) -> list[str]:
    return ["torch", "fused", *(f"mine{number}" for number in range(count - 2))]


def curves_of(names: list[str], seeds: int) -> dict[str, pd.DataFrame]:
    others = [{"name": name, "op": "a:b"} for name in names[2:]]
    settings = config.resolve({"backends": [*names[:2], *others], "seeds": {"count": seeds}})
    curves = Curves(settings)
    random = np.random.default_rng(0)
    falling = np.exp(-np.linspace(0, 5, 9380))
    for seed in range(seeds):
        noise = random.lognormal(0, 0.5, 9380)
        accuracy = 99 - 2 * np.exp(-np.arange(10)) + random.normal(0, 0.1, 10)
        for name in names:
            loss = (falling * np.roll(noise, len(name))).astype(np.float32)
            curves.add(name, seed, {"loss": loss, "accuracy": accuracy})
    return curves.frames()


def summary_of(names: list[str], seeds: int) -> dict[str, Any]:
    """Return what the figures need of a summary; all that is not torch is alike."""
    timed = [*names, "compile"]
    rows = [
        row(name, None if name == "torch" else 2.0, direction=direction, shape=[size])
        for name in timed
        for direction in ("forward", "backward", "both")
        for size in SIZES
    ]
    for of in rows:
        if of["ratio"]:
            of["ratios"] = [2.0 + number / 40 for number in range(-20, 21)]
    copy = [
        {**{key: of[key] for key in ("baseline", "operation", "shape", "values", "direction")}}
        | {"bytes_per_second": 2e10}
        for of in rows[: 3 * len(SIZES)]
    ]
    training = [
        measured(name, engine=engine, measure=measure, value=value, low=low, high=high)
        for name in names
        for engine in ("reference", "graph", "kernel")
        if name != "torch" or engine != "kernel"
        for measure, value, low, high in (
            ("run_seconds", 8.0, None, None),
            ("ratio_to_reference", 4.0, 3.0, 5.0),
        )
        if (name, engine, measure) != ("torch", "reference", "ratio_to_reference")
    ]
    return {
        "results": {
            "backends": [
                {
                    "name": name,
                    "op": "F.gelu" if name == "torch" else name,
                    "reference": "F.gelu",
                    "baseline": "torch",
                    "comparison": comparison(name, seeds),
                    "verification": verified(name),
                }
                for name in names
            ],
        },
        "measurements": {
            "operators": {"rows": rows, "copy": copy},
            "training_time": {"rows": training, "steps": 9380, "precision": "fp32"},
        },
    }


def comparison(name: str, seeds: int) -> dict[str, Any] | None:
    if name == "torch":
        return None
    differences = [{"seed": seed, "difference": 0.05 * (-1) ** seed} for seed in range(seeds)]
    interval = {"mean": 0.0, "low": -0.02, "high": 0.02}
    return {
        "baseline": "torch",
        "margin": 0.1,
        "verdict": "EQUIVALENT",
        "differences": differences,
        **interval,
    }


def verified(name: str) -> dict[str, Any]:
    profile = [1e7 / (part + 1) for part in range(200)]
    of_gelu = {"float32": {way: {"profile": profile} for way in ("forward", "backward")}}
    ours: list[Any] = ["inf", 0.0, *[2.5] * 90, *[None] * 5, *[0.5] * 103]
    own = {"float32": {way: {"profile": ours} for way in ("forward", "backward")}}
    claim = 3.0 if name == "fused" else None
    return {"accuracy": own, "yardstick_accuracy": of_gelu, "claim": {"max_ulp": claim}}


def drawn(names: list[str], seeds: int) -> list[Figure]:
    return figures(summary_of(names, seeds), curves_of(names, seeds))


def digest() -> str:
    """Return the digest of all that figures of three backends are."""
    of = drawn(backends(3), 4)
    return hashlib.sha256("".join(one.svg + one.as_csv() for one in of).encode()).hexdigest()


@pytest.fixture(scope="module")
def few() -> dict[str, Figure]:
    return {figure.name: figure for figure in drawn(backends(3), 4)}


@pytest.fixture(params=NAMES)
def figure(request: pytest.FixtureRequest, few: dict[str, Figure]) -> Figure:
    return few[request.param]


def test_all_are_drawn_in_order(few: dict[str, Figure]) -> None:
    assert [*few] == NAMES


def test_the_same_bytes_in_another_process() -> None:
    code = "from tests.unit.test_figures import digest; print(digest())"
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'workflow'}", "PYTHONHASHSEED": "7"}
    other = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == digest()


@pytest.mark.parametrize(("count", "seeds", "most"), [(5, 30, 200_000), (40, 100, 500_000)])
def test_they_fit_into_a_page(count: int, seeds: int, most: int) -> None:
    of = drawn(backends(count), seeds)
    assert len(of) == len(NAMES)
    assert sum(len(one.svg) for one in of) < most
    assert all(len(one.description) < 1500 for one in of)


def test_a_figure_is_told_in_words(figure: Figure) -> None:
    root = ElementTree.fromstring(figure.svg)
    assert root.attrib["role"] == "img"
    told = {part.attrib["id"]: (part.tag, part.text) for part in root[:2]}
    assert root.attrib["aria-labelledby"].split() == [*told]
    assert [*told.values()] == [
        (f"{SVG}title", figure.title),
        (f"{SVG}desc", figure.description),
    ]


def test_a_figure_has_the_pages_colours_and_needs_nothing_else(figure: Figure) -> None:
    colours = set(re.findall(r'(?:fill|stroke)="([^"]+)"', figure.svg))
    assert colours <= {"none", "currentColor", theme.BLUE, theme.VERMILION}
    assert {"currentColor", theme.BLUE} <= colours
    assert not re.search(r"url\(|href|<script|<style", figure.svg)
    root = ElementTree.fromstring(figure.svg)
    assert (root.attrib["width"], "height" in root.attrib) == ("100%", False)


def test_several_figures_may_be_in_one_page(few: dict[str, Figure]) -> None:
    ids = [name for one in few.values() for name in re.findall(r' id="([^"]+)"', one.svg)]
    assert max(Counter(ids).values()) == 1


def test_no_text_is_cut(figure: Figure) -> None:
    root = ElementTree.fromstring(figure.svg)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    texts = 0
    for parent in root.iter():
        for text in parent.findall(f"{SVG}text"):
            look = {**parent.attrib, **text.attrib}
            long = 0.55 * float(look["font-size"].removesuffix("px")) * len(text.text or "")
            before = {"start": 0.0, "middle": 0.5, "end": 1.0}[look.get("text-anchor", "start")]
            left = float(text.attrib["x"]) - before * long
            assert -2 <= left <= left + long <= width + 2, text.text
            assert 8 <= float(text.attrib["y"]) <= height
            texts += 1
    assert texts > 5


def test_colours_can_be_seen_in_light_and_in_dark() -> None:
    for colour in (theme.BLUE, theme.VERMILION):
        for ground in ("#ffffff", "#16181d"):
            darker, lighter = sorted((luminance(colour), luminance(ground)))
            assert (lighter + 0.05) / (darker + 0.05) >= 3, (colour, ground)


def luminance(colour: str) -> float:
    """Return the relative luminance, as WCAG has it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def without(change: Callable[[dict[str, Any]], object], trained: bool = True) -> list[str]:
    summary = summary_of(backends(3), 2)
    change(summary)
    curves = curves_of(backends(3), 2) if trained else untrained()
    return [figure.name for figure in figures(summary, curves)]


def untrained() -> dict[str, pd.DataFrame]:
    return Curves(config.resolve({"backends": ["torch"]})).frames()


def not_compared(summary: dict[str, Any]) -> None:
    for backend in summary["results"]["backends"]:
        backend["comparison"] = backend["comparison"] and {
            **backend["comparison"],
            "verdict": None,
            "differences": [],
        }


def not_verified(summary: dict[str, Any]) -> None:
    for backend in summary["results"]["backends"]:
        backend["verification"] = {"verdict": "missing", "expected": "pass", "reasons": ["x"]}


def not_timed(summary: dict[str, Any]) -> None:
    for kind in summary["measurements"]:
        summary["measurements"][kind] = {"missing": "timing is false in the configuration"}


def all_raised(summary: dict[str, Any]) -> None:
    for of in summary["measurements"].values():
        for entry in of["rows"]:
            entry |= dict.fromkeys(("shape", "values", "direction", "mode", "ratio", "ratios"))
            entry |= {"copy_percent": None, "value": None, "error": "does not compile"}


@pytest.mark.parametrize(
    ("change", "trained", "absent"),
    [
        (lambda summary: None, False, {"accuracy", "loss"}),
        (not_compared, True, {"differences"}),
        (not_verified, True, {"ulp"}),
        (not_timed, True, {"blocks", "bandwidth", "ladder"}),
        (all_raised, True, {"blocks", "bandwidth", "ladder"}),
    ],
)
def test_what_has_no_data_is_left_out(
    change: Callable[[dict[str, Any]], object], trained: bool, absent: set[str]
) -> None:
    assert {*NAMES} - {*without(change, trained)} == absent


def test_the_data_is_what_is_drawn(few: dict[str, Figure]) -> None:
    found = {name: pd.read_csv(io.StringIO(one.as_csv())) for name, one in few.items()}
    differences = found["differences"]
    assert [*differences.backend.unique()] == ["fused", "mine0"]
    assert len(differences) == 2 * (1 + 4)
    assert [*differences.value[:3]] == [0.0, 0.05, -0.05]
    assert [*found["bandwidth"].groupby("backend").size()] == [len(SIZES)] * 4
    assert [*found["bandwidth"].bandwidth.unique()] == [0.88 * 20]
    assert [*found["bandwidth"].baseline.dropna().unique()] == [0.88 * 20]
    blocks = found["blocks"]
    assert len(blocks) == 3 * 3 * (1 + 41)  # directions, backends
    assert [*found["ladder"].value] == [1.0, *[4.0] * 7]
    assert [*found["ladder"].seconds.unique()] == [8.0]
    loss = found["loss"]
    assert loss.mean_of_baseline.notna().sum() == 2 * 200
    ulp = found["ulp"][(found["ulp"].backend == "fused") & (found["ulp"].direction == "forward")]
    assert (ulp.x.iloc[0], ulp.x.iloc[-1]) == (-11.94, 11.94)
    assert [*ulp.ulp[:3]] == [np.inf, 0.0, 2.5]
    assert ulp.ulp.isna().sum() == 5
    assert [*ulp.claimed.unique()] == [3.0]


def subpaths(figure: Figure, **look: str) -> list[list[tuple[float, float]]]:
    """Return the absolute first points of the subpaths of what looks so, a list a path."""
    return [
        [(float(x), float(y)) for x, y in re.findall(rf"M({NUMBER}) ?({NUMBER})", path.attrib["d"])]
        for path in ElementTree.fromstring(figure.svg).iter(f"{SVG}path")
        if all(path.get(key.replace("_", "-")) == value for key, value in look.items())
    ]


def test_a_stroke_a_seed_between_the_margins(few: dict[str, Figure]) -> None:
    key, strokes = subpaths(few["differences"], stroke=theme.BLUE)
    assert (len(key), len(strokes)) == (1, 2 * 4)
    _, margins = subpaths(few["differences"], stroke=theme.VERMILION)
    left, right = sorted({x for x, _ in margins})
    middle, reach = (left + right) / 2, (right - left) / 2
    # 0.05 of 0.1, to either side.
    assert sorted({x for x, _ in strokes}) == pytest.approx(
        [middle - reach / 2, middle + reach / 2], abs=0.1
    )


def test_the_error_is_broken_where_units_vanish(few: dict[str, Figure]) -> None:
    lines = subpaths(few["ulp"], stroke=theme.BLUE)
    # The key; F.gelu's, whole; those of the others, in two parts.
    assert [len(line) for line in lines] == [1, *[1] * 2, *[2] * 4]
    path = [
        path.attrib["d"]
        for path in ElementTree.fromstring(few["ulp"].svg).iter(f"{SVG}path")
        if path.get("stroke") == theme.BLUE
    ][3]
    begin = re.match(rf"M({NUMBER}) ?({NUMBER})l({NUMBER}) ?({NUMBER})", path)
    assert begin
    # From the upper edge, infinity, to the lower one, 0: a panel's height.
    assert float(begin[4]) == pytest.approx(120, abs=0.2)


def test_one_run_of_one_step_and_no_loss_left() -> None:
    settings = config.resolve({"backends": ["torch"], "train": {"epochs": 1, "batch_size": 60_000}})
    curves = Curves(settings)
    curves.add("torch", 0, {"loss": np.zeros(1, np.float32), "accuracy": np.array([97.5])})
    of = figures(summary_of(["torch"], 1), curves.frames())
    assert [one.name for one in of] == ["accuracy", "loss", "ulp", "blocks", "bandwidth", "ladder"]
    assert "At epoch 1 the mean is 97.5 in each." in of[0].description
    assert "middle 90 %" not in of[1].svg
    assert of[1].as_csv().splitlines()[1] == "torch,,1,0,,,"


@pytest.mark.parametrize(
    ("data", "moved", "expected"),
    [
        ("M0,100L50,78.285", (0, 0), "M0 100l50-21.7"),
        ("M0,0L1,0L1,2L0,2Z", (10, -5), "M10-5h1v2h-1z"),
        ("M-1,0L0,-1,1,0,0,1Z", (0, 0), "M-1 0l1-1 1 1-1 1z"),
        ("M2.74,0A2.74,2.74,0,1,1,-2.74,0", (1, 1), "M3.7 1a2.7 2.7 0 1 1-5.4 0"),
        ("M0,0h4v0.5h-4Z", (0.25, 0), "M.2 0h4v.5h-4z"),
        ("M0,1e-7L0.04,0L0.08,0L0.12,0", (0, 0), "M0 0h.1"),
        ("M1,1L2,2M5,5L5,6", (0, 0), "M1 1l1 1M5 5v1"),
        ("", (0, 0), ""),
    ],
)
def test_paths_are_short_and_in_their_place(
    data: str, moved: tuple[float, float], expected: str
) -> None:
    assert short(data, *moved) == expected


def test_of_a_drawing_what_shows_something_is_left() -> None:
    text = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9" width="9"><g fill="none" '
        'transform="translate(1,2)"><path class="background" d="M0,0h9"/><g opacity="1" role="x">'
        '<line transform="translate(1,1)" x2="3" y2="0" stroke="#000001"/>'
        '<line transform="translate(1,3)" x2="3" y2="0" stroke="#000001"/></g>'
        '<text transform="translate(1.24,0) rotate(-90)" fill="#000001">a&lt;</text>'
        '<text transform="translate(0,0)" fill="#000001" opacity="0">b</text></g></svg>'
    )
    root = ElementTree.fromstring(tidy(text, "one", "t", "<d>"))
    assert [(part.tag.removeprefix(SVG), part.text) for part in root] == [
        ("title", "t"),
        ("desc", "<d>"),
        ("path", None),
        ("text", "a<"),
    ]
    assert root[2].attrib == {"stroke": "currentColor", "d": "M2 3h3M2 5h3"}
    assert root[3].attrib == {"fill": "currentColor", "transform": "translate(2.2,2) rotate(-90)"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.01, 10), [0.01, 0.1, 1, 10]),
        ((0.4, 12), [1, 3, 10]),
        ((0.9, 2.1), [1, 1.5, 2]),
        ((0.96, 1.04), [0.96, 0.97, 0.98, 0.99, 1]),
        ((3.7, 3.7), [3.7]),
    ],
)
def test_a_log_axis_has_round_numbers(values: tuple[float, ...], expected: list[float]) -> None:
    assert theme.log_ticks(pd.Series(values)) == expected


@pytest.mark.parametrize(("curves", "most"), [(1, 200), (40, 200), (80, 100), (10_000, 25)])
def test_many_curves_share_the_points(curves: int, most: int) -> None:
    assert points.of_a_curve(curves) == most
