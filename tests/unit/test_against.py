"""A summary against an earlier one: what has become worse makes `check` fail."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opproof import __main__, artifact
from opproof.against import regressions
from tests.unit.summaries import errors, measured
from tests.unit.test_check import Summary, check, good, row

__all__ = ["good"]


@pytest.fixture
def before(good: Summary) -> Summary:
    """An earlier summary, with errors in ULP and ratios of times."""
    for backend in good["results"]["backends"]:
        backend["verification"]["accuracy"] = {"float32": errors((1.0, 2.5), (2.5, 1.0))}
    ratio = {"measure": "ratio_to_reference", "low": 5.0, "high": 5.5}
    good["measurements"]["training_time"]["rows"].append(measured("tanh", 5.25, **ratio))
    return good


def backend(summary: Summary, number: int) -> Summary:
    return summary["results"]["backends"][number]


def accuracy(summary: Summary, mean: float) -> None:
    backend(summary, 1)["accuracy"]["mean"] = mean


def operators(summary: Summary, **changes: Any) -> None:
    summary["measurements"]["operators"].update(changes)


def slower(summary: Summary, high: float) -> None:
    ratio = {"low": 0.1, "mean": 0.2, "high": high}
    operators(summary, rows=[row("torch"), {**row("tanh"), "ratio": ratio}])


def slower_training(summary: Summary, high: float) -> None:
    summary["measurements"]["training_time"]["rows"][-1].update(low=1.0, value=2.0, high=high)


def off(summary: Summary, ulp: float | str) -> None:
    backend(summary, 1)["verification"]["accuracy"] = {"float32": errors((1.0, ulp), (ulp, 1.0))}


# From 0.5 to 1.0 times as fast as torch before, and the threshold of 3 %: 0.485.
WORSE: dict[str, tuple[Callable[[Summary], object], list[str]]] = {
    "nothing": (lambda _: None, []),
    "a backend gone": (
        lambda s: s["results"]["backends"].pop(1),
        ["tanh: it was there before, and is not now"],
    ),
    "a backend new": (
        lambda s: s["results"]["backends"].append({**backend(s, 1), "name": "new"}),
        [],
    ),
    "refused": (
        lambda s: backend(s, 0)["verification"].update(verdict="fail"),
        ["torch: verification said pass before, and fail now"],
    ),
    "passes": (lambda s: backend(s, 1)["verification"].update(verdict="pass"), []),
    "an ULP more": (lambda s: off(s, 3.5), []),
    "further off": (
        lambda s: off(s, 3.6),
        ["tanh: forward is 3.6 ULP off, it was 2.5", "tanh: backward is 3.6 ULP off, it was 2.5"],
    ),
    "infinitely off": (
        lambda s: off(s, "inf"),
        ["tanh: forward is inf ULP off, it was 2.5", "tanh: backward is inf ULP off, it was 2.5"],
    ),
    "nearer": (lambda s: off(s, 1.0), []),
    "less accurate, within the margin": (lambda s: accuracy(s, 98.151), []),
    "less accurate": (
        lambda s: accuracy(s, 98.149),
        ["tanh: mean accuracy is 98.149 %, it was 98.250 %: more than ±0.1 points"],
    ),
    "slower, within the threshold": (lambda s: slower(s, 0.486), []),
    "slower": (
        lambda s: slower(s, 0.485),
        [
            "tanh activation 64 normal forward allocated: 0.10 to 0.48 times as fast, "
            "it was 0.50 to 1.00"
        ],
    ),
    "training slower": (
        lambda s: slower_training(s, 4.8),
        ["tanh ratio_to_reference graph 1 fp32: 1.00 to 4.80 times as fast, it was 5.00 to 5.50"],
    ),
    "slower, on other hardware": (
        lambda s: (slower(s, 0.1), operators(s, hardware="another")),
        [],
    ),
    "not timed": (lambda s: s["measurements"].update(operators={"missing": "x"}), []),
    "another training": (
        lambda s: (accuracy(s, 90.0), s["results"].update(engine="reference")),
        ["the earlier summary is of another engine, precision or training"],
    ),
}


@pytest.mark.parametrize(("spoil", "lines"), WORSE.values(), ids=WORSE)
def test_what_is_worse(
    before: Summary, spoil: Callable[[Summary], object], lines: list[str]
) -> None:
    now = copy.deepcopy(before)
    spoil(now)
    assert [*regressions(now, before)] == lines


def test_check_fails_on_a_regression(
    tmp_path: Path, before: Summary, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = tmp_path / "earlier.json"
    artifact.write_json(earlier, before)
    now = copy.deepcopy(before)
    (tmp_path / "now").mkdir()
    assert check(tmp_path / "now", now) == 0
    command = ["check", str(tmp_path / "now"), "--against", str(earlier)]
    assert __main__.main(command) == 0
    accuracy(now, 97.0)
    assert check(tmp_path / "now", now) == 0
    capsys.readouterr()
    assert __main__.main(command) == 1
    assert capsys.readouterr().out.startswith("check failed: tanh: mean accuracy is 97.000 %, ")


def test_an_earlier_summary_that_is_none(
    tmp_path: Path, before: Summary, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "now").mkdir()
    check(tmp_path / "now", before)
    earlier = tmp_path / "earlier.json"
    artifact.write_json(earlier, {"format": 1})
    command = ["check", str(tmp_path / "now"), "--against", str(earlier)]
    assert __main__.main(command) == 1
    assert f"check failed: {earlier}: $: 'results' is a required" in capsys.readouterr().out
    assert __main__.main([*command[:-1], str(tmp_path / "absent.json")]) == 2
    assert "absent.json: missing" in capsys.readouterr().err
