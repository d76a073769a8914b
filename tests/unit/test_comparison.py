"""Statistics over paired runs: verdicts, flags, and what they are judged by."""

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from opproof.summary import comparison
from opproof.summary.evidence import Evidence
from opproof.summary.pairs import Arrays, Pair, churn, pair

MARGIN = 0.1
BASELINES = defaultdict(lambda: "torch")


def made(
    difference: float, identical: bool = False, churned: int = 1, apart: float = 2e-7, seed: int = 0
) -> Pair:
    """Return a pair whose loss at step 10 is `apart`, in units of 2.4e-7 of float32 around 2.3."""
    return Pair(
        seed,
        identical,
        difference,
        {"first_epoch": churned, "last_epoch": 100},
        {1: 0.0, 10: apart},
        {1: 2.4e-7, 10: 2.4e-7},
    )


def evidence(
    pairs: dict[str, list[Pair]], control: float = 2e-7, another_seed: int = 250
) -> Evidence:
    """Return evidence whose control's losses at step 10 are so far apart."""
    return Evidence(
        pairs,
        controls={"torch": [made(0.0, apart=control)] * 2},
        another_seed={"torch": {"first_epoch": [another_seed] * 2, "last_epoch": [140, 150]}},
    )


def compared(differences: Sequence[float], **of_pair: Any) -> dict[str, Any]:
    pairs = [made(difference, **of_pair) for difference in differences]
    return comparison.compare(evidence({"mine": pairs}), BASELINES, MARGIN)["mine"]


@pytest.mark.parametrize(
    ("differences", "identical", "verdict"),
    [
        pytest.param([], False, None, id="no pair"),
        pytest.param([0.0], True, "IDENTICAL", id="one pair, to the bit"),
        pytest.param([0.0] * 5, True, "IDENTICAL", id="to the bit"),
        pytest.param([0.0], False, "INCONCLUSIVE", id="one pair"),
        pytest.param([0.0] * 3, False, "EQUIVALENT", id="no spread"),
        pytest.param([0.02] * 3, False, "EQUIVALENT", id="no spread, a difference within"),
        pytest.param([0.2] * 3, False, "DIFFERENT", id="no spread, a difference beyond"),
        pytest.param([0.01, -0.02, 0.02, 0.0, -0.01], False, "EQUIVALENT", id="a small spread"),
        pytest.param([0.05, 0.04, 0.06, 0.05], False, "EQUIVALENT", id="proven, and within"),
        pytest.param([-0.3, -0.28, -0.33, -0.31], False, "DIFFERENT", id="proven, and beyond"),
        pytest.param([0.3, -0.3, 0.2, -0.25], False, "INCONCLUSIVE", id="a large spread"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_verdict(differences: list[float], identical: bool, verdict: str | None) -> None:
    assert compared(differences, identical=identical)["verdict"] == verdict


def test_figures_are_those_of_the_libraries_whole_functions() -> None:
    baseline = np.array([98.9, 98.7, 98.85, 98.95, 98.8])
    differences = np.array([0.03, -0.04, 0.05, 0.01, -0.02])
    found = compared(differences.tolist())
    assert found["p_equivalent"] == pytest.approx(
        ttost_paired(baseline + differences, baseline, -MARGIN, MARGIN)[0]
    )
    assert found["p_different"] == pytest.approx(
        stats.ttest_rel(baseline + differences, baseline).pvalue
    )
    test = stats.ttest_1samp(differences, 0.0)
    assert (found["low"], found["high"]) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert found["provable_margin"] == pytest.approx(max(map(abs, test.confidence_interval(0.9))))
    assert found["mean"] == pytest.approx(differences.mean())


def test_the_least_margin_is_where_equivalence_is_just_proven() -> None:
    differences = [0.03, -0.04, 0.05, 0.01, -0.02]
    least = compared(differences)["provable_margin"]
    pairs = {"mine": [made(difference) for difference in differences]}
    for margin, verdict in ((least * 1.001, "EQUIVALENT"), (least * 0.999, "INCONCLUSIVE")):
        assert comparison.compare(evidence(pairs), BASELINES, margin)["mine"]["verdict"] == verdict


# Of 4,000 simulated runs so many seeds prove the margin in 80 of 100, if nothing is different.
@pytest.mark.parametrize(("deviation", "seeds"), [(0.003, 2), (0.06, 5), (0.087, 8), (0.12, 14)])
def test_seeds_needed(deviation: float, seeds: int) -> None:
    spread = stats.zscore(np.arange(6.0), ddof=1) * deviation
    assert compared(spread.tolist())["seeds_needed"] == pytest.approx(seeds, abs=1)


def test_p_are_adjusted_by_holm() -> None:
    of_each = {
        "near": [0.01, -0.02, 0.02, 0.0, -0.01],
        "off": [-0.3, -0.28, -0.33, -0.31, -0.3],
        "between": [0.06, 0.01, 0.04, 0.09, 0.03],
    }
    alone = {name: compared(differences) for name, differences in of_each.items()}
    pairs = {name: [made(d) for d in differences] for name, differences in of_each.items()}
    pairs["same"] = [made(0.0, identical=True)] * 5
    together = comparison.compare(evidence(pairs), BASELINES, MARGIN)
    for key in ("p_equivalent", "p_different"):
        ordered = sorted(of_each, key=lambda name: alone[name][key])
        expected = itertools.accumulate(
            (min(1.0, (3 - rank) * alone[name][key]) for rank, name in enumerate(ordered)), max
        )
        assert [together[name][key] for name in ordered] == pytest.approx([*expected])
        assert together["same"][key] is None


# What was measured at 10 epochs, in docs/measured/: churn of 250 is another seed's.
@pytest.mark.parametrize(
    ("churned", "apart", "words"),
    [
        pytest.param(0, 0.0, [], id="the same"),
        pytest.param(2, 2e-7, [], id="another rounding"),
        pytest.param(2, 4e-6, [], id="a gradient off by 1 %, which NAdam takes out"),
        pytest.param(3, 1.1e-4, ["loss at step 10"], id="values off by 1e-4"),
        pytest.param(154, 5e-2, ["154.0 of 10,000", "loss at step 10"], id="a wrong gradient"),
    ],
)
def test_flags(churned: int, apart: float, words: list[str]) -> None:
    flags = compared([0.0, 0.01], churned=churned, apart=apart)["flags"]
    assert len(flags) == len(words)
    assert all(word in flag for word, flag in zip(words, flags, strict=True))


def test_flags_are_judged_by_what_was_measured() -> None:
    pairs = {"mine": [made(0.0, churned=30, apart=1e-4)] * 2}
    assert len(comparison.compare(evidence(pairs), BASELINES, MARGIN)["mine"]["flags"]) == 2
    wild = evidence(pairs, control=1e-5, another_seed=400)
    assert comparison.compare(wild, BASELINES, MARGIN)["mine"]["flags"] == []
    exact = evidence(pairs, control=0.0)
    assert (
        "what rounding does, 2.4e-07"
        in comparison.compare(exact, BASELINES, MARGIN)["mine"]["flags"][1]
    )
    nothing = Evidence(pairs, controls={}, another_seed={})
    assert comparison.compare(nothing, BASELINES, MARGIN)["mine"]["flags"] == []


def arrays(seed: int, epochs: int = 2) -> Arrays:
    random = np.random.default_rng(seed)
    predictions = random.integers(0, 10, (2, 10_000), dtype=np.uint8)
    return {
        "loss": random.uniform(0, 2.5, 60 * epochs).astype(np.float32),
        "accuracy": random.uniform(98, 99, epochs).round(2),
        "first_predictions": predictions[0],
        "predictions": predictions[-1],
    }


def test_a_pair() -> None:
    baseline, other = arrays(0), arrays(0)
    other["loss"][49] += np.float32(0.25)
    other["accuracy"][-1] += 0.03
    other["first_predictions"] = baseline["first_predictions"].copy()
    other["first_predictions"][:7] ^= 1
    found = pair(3, baseline, other)
    assert found.difference == 0.03
    assert found.churn == {"first_epoch": 7, "last_epoch": 0}
    assert found.divergence == {1: 0.0, 10: 0.0, 50: pytest.approx(0.25)}
    assert not found.identical
    assert found.resolution[1] == np.spacing(baseline["loss"][0])
    assert pair(3, baseline, arrays(0)).identical
    assert churn(baseline, arrays(1), "last_epoch") > 8000


def test_a_pair_with_a_control_of_an_epoch() -> None:
    whole, control = arrays(0), arrays(0)
    control = {**control, "loss": control["loss"][:60], "accuracy": control["accuracy"][:1]}
    found = pair(3, whole, control)
    assert (found.identical, found.difference) == (True, None)
    assert found.churn == {"first_epoch": 0}


def test_a_loss_of_zero_and_of_the_other_sign_is_not_identical() -> None:
    one, other = arrays(0), arrays(0)
    one["loss"][5], other["loss"][5] = 0.0, -0.0
    assert not pair(0, one, other).identical
    assert math.isclose(pair(0, one, other).divergence[10], 0.0)
