"""Verification of pooled operators: what it lets pass and refuses, and why."""

import re

import pytest
import torch

from opproof.settings import GELU
from opproof.verify import pooled, yardstick
from tests.unit import wrong_pooled
from tests.unit.verdicts import CPU, coarse, failed, verdict

__all__ = ["coarse"]

GATES = ["forward", "backward", "gradcheck", "gradgradcheck", "repeatable"]

pytestmark = pytest.mark.usefixtures("arithmetic")

WRONG = {
    "without_inner": (["forward", "backward"], r"float32, shape \(4, 128, 128\), .* is 2\.67, "),
    "gradient_unscaled": (["backward", "gradcheck"], "absolute error is "),
    "odd_sizes_rounded_up": (
        ["forward", "backward"],
        r"returns torch.float32 of shape \(2, 3, 3, 4\) for .* of shape \(2, 3, 6, 7\)$",
    ),
    "strides_ignored": (["forward", "backward"], r"strides \(144, 1, 24, 3\): the largest"),
    "no_empty_batch": (["forward", "backward"], r"shape \(0, 3, 6, 8\), .*ValueError: no images$"),
    "in_float32": (
        ["forward", "backward", "gradcheck", "gradgradcheck"],
        r"float64, .* is \d\.?\d*e-0[67], above \d\.\d+e-1[45]$",
    ),
    "nan_swallowed": (["forward", "backward"], "a NaN makes 0 results NaN, not its own window's"),
    "input_overwritten": (
        ["forward", "backward", "gradcheck", "repeatable"],
        "the input is overwritten$",
    ),
    "not_twice": (["gradgradcheck"], "Numerical gradient for function expected to be zero$"),
    "noisy": (["repeatable"], r"forward: \d+ of 16384 results differ between two calls$"),
    "contiguous": (
        ["opcheck"],
        r"shape \(2, 3, 6, 8\), strides \(144, 1, 24, 3\): forward: strides \(36, 12, 4, 1\), but "
        r"the fake says \(36, 1, 12, 3\)$",
    ),
}


def test_a_right_one_passes(coarse: None) -> None:
    record = verdict("torch", pooled=f"{wrong_pooled.__name__}:right")
    assert record["reasons"] == []
    assert [gate for gate in record["gates"] if "pooled" in gate] == [
        f"pooled {gate}" for gate in GATES
    ]


@pytest.mark.parametrize(("name", "why"), WRONG.items(), ids=WRONG)
def test_a_wrong_one_is_refused_for_its_fault(name: str, why: tuple[list[str], str]) -> None:
    gates, reason = why
    operator = getattr(wrong_pooled, name)
    faults = dict(pooled.gates(operator, yardstick.of(GELU), (torch.float32, torch.float64), CPU))
    assert [gate for gate, fault in faults.items() if fault] == [f"pooled {gate}" for gate in gates]
    assert re.search(reason, str(faults[f"pooled {gates[0]}"]))


def test_one_that_is_missing_or_wrong_refuses_the_backend(coarse: None) -> None:
    record = verdict("torch", pooled=f"{wrong_pooled.__name__}:missing")
    assert failed(record) == ["usable"]
    record = verdict("torch", pooled=f"{wrong_pooled.__name__}:without_inner")
    assert (record["verdict"], failed(record)) == ("fail", ["pooled forward", "pooled backward"])
    assert record["reasons"][0].startswith("pooled forward: torch.float32, shape (4, 128, 128)")
