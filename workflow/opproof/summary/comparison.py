"""Whether training with a backend comes to what it comes to with its baseline: statistics.

Runs are paired by seed. All p are adjusted by Holm over the backends of a run, so that 5 % is the
chance of one false claim in the whole table, and are two one-sided t tests for equivalence within
the margin (Schuirmann 1987), a t test for a difference; by statsmodels and scipy.

IDENTICAL     every step's loss has the baseline's bits, in every pair: nothing to test
EQUIVALENT    the mean difference is proven to be within the margin
DIFFERENT     not that, and a difference is proven
INCONCLUSIVE  neither: too few seeds for this spread

Accuracy alone lets a wrong gradient pass. So two sensitive measures stand beside it, each with what
rounding alone does (the control) or what another seed does; docs/measured/ has the calibration.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from opproof.summary.evidence import Evidence
from opproof.summary.interval import CONFIDENCE, interval, mean_with_interval
from opproof.summary.pairs import PREDICTIONS, STEPS, Pair

_ALPHA = 0.05
_POWER = 0.8

# Of 10,000 test images one is 0.01 points. Differences that are all alike are so up to rounding to
# this, whose standard deviation is that of a uniform distribution.
_RESOLUTION = 0.01
_LEAST_DEVIATION = _RESOLUTION / math.sqrt(12)

# A backend is flagged whose predictions differ after the first epoch by more than this share of
# what another seed's do, or whose loss at this step differs by more than so many times what the
# control's does. A right operator is a hundred times below either; a wrong gradient is above both.
_CHURN_SHARE = 0.1
_FLAGGED_STEP, _CONTROLS_DIVERGENCE = 10, 100.0


def compare(
    evidence: Evidence, baselines: Mapping[str, str], margin: float
) -> dict[str, dict[str, Any]]:
    """Return by backend how its runs compare with its baseline's; margin in points."""
    tests = {name: _tests(pairs, margin) for name, pairs in evidence.pairs.items()}
    tested = [name for name, found in tests.items() if found]
    for kind in ("equivalent", "different") if tested else ():
        adjusted = multipletests([tests[name][kind] for name in tested], method="holm")[1]
        for name, p in zip(tested, adjusted, strict=True):
            tests[name][kind] = float(p)
    yards = yardsticks(evidence)
    return {
        name: {
            "baseline": baselines[name],
            "seeds": len(pairs),
            "margin": margin,
            "verdict": _verdict(pairs, tests[name]),
            **_difference(pairs),
            "p_equivalent": tests[name].get("equivalent"),
            "p_different": tests[name].get("different"),
            **_reach(pairs, margin),
            **(sensitive := _sensitive(pairs)),
            "flags": _flags(pairs, sensitive, yards.get(baselines[name]), baselines[name]),
        }
        for name, pairs in evidence.pairs.items()
    }


def yardsticks(evidence: Evidence) -> dict[str, Any]:
    """Return by baseline what churn and divergence are judged by: a control's, another seed's."""
    return {
        baseline: {
            "control": {"seeds": len(controls), **_sensitive(controls)},
            "another_seed": {
                epoch: mean_with_interval(values)
                for epoch, values in evidence.another_seed[baseline].items()
            },
        }
        for baseline, controls in evidence.controls.items()
    }


def _tests(pairs: Sequence[Pair], margin: float) -> dict[str, float]:
    """Return p for "equivalent" and "different"; of identical runs, and of fewer than two, none."""
    if not _can_be_tested(pairs):
        return {}
    differences = _differences(pairs)
    if len(set(differences)) == 1:  # no spread, which the tests would divide by
        of_mean = stats.t(len(pairs) - 1, scale=_LEAST_DEVIATION / math.sqrt(len(pairs)))
        mean = abs(differences[0])
        return {"equivalent": of_mean.sf(margin - mean), "different": 2 * of_mean.sf(mean)}
    return {
        "equivalent": DescrStatsW(differences).ttost_mean(-margin, margin)[0],
        "different": stats.ttest_1samp(differences, 0.0).pvalue,
    }


def _verdict(pairs: Sequence[Pair], p: dict[str, float]) -> str | None:
    if not pairs:
        return None
    if _are_identical(pairs):
        return "IDENTICAL"
    if p and p["equivalent"] < _ALPHA:
        return "EQUIVALENT"
    return "DIFFERENT" if p and p["different"] < _ALPHA else "INCONCLUSIVE"


def _difference(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return each seed's difference of accuracy, their mean and its interval."""
    differences = _differences(pairs)
    low, high = interval(differences, CONFIDENCE, _LEAST_DEVIATION)
    return {
        "differences": [
            {"seed": pair.seed, "difference": difference}
            for pair, difference in zip(pairs, differences, strict=True)
        ],
        "mean": statistics.fmean(differences) if pairs else None,
        "low": low,
        "high": high,
    }


def _reach(pairs: Sequence[Pair], margin: float) -> dict[str, Any]:
    """Return the least margin that these runs prove, and how many seeds would prove this margin.

    The latter with a power of 80 %, should there be no difference and the spread stay as it is.
    Both for one backend, unadjusted; None where there is no spread to tell by, or nothing to prove.
    """
    if not _can_be_tested(pairs):
        return {"provable_margin": None, "seeds_needed": None}
    differences = _differences(pairs)
    ends = interval(differences, 1 - 2 * _ALPHA, _LEAST_DEVIATION)
    effect = margin / (statistics.stdev(differences) or _LEAST_DEVIATION)
    each = {"alpha": _ALPHA, "alternative": "larger"}
    power = 1 - (1 - _POWER) / 2  # of each of the two tests, for both to be significant
    needed = 2
    if TTestPower().power(effect, nobs=needed, **each) < power:
        needed = math.ceil(TTestPower().solve_power(effect, power=power, **each))
    return {
        "provable_margin": max(abs(end) for end in ends if end is not None),
        "seeds_needed": needed,
    }


def _sensitive(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return churn, a mean with interval by epoch, and by step how far losses are apart at most."""
    return {
        "churn": {
            epoch: mean_with_interval([pair.churn[epoch] for pair in pairs if epoch in pair.churn])
            for epoch in PREDICTIONS
        },
        "divergence": {
            str(step): max(found)
            for step in STEPS
            if (found := [pair.divergence[step] for pair in pairs if step in pair.divergence])
        },
    }


def _flags(
    pairs: Sequence[Pair], found: dict[str, Any], yards: dict[str, Any] | None, baseline: str
) -> list[str]:
    """Say which of the two measures, `found` as of `_sensitive`, is beyond what rounding can do."""
    if yards is None:  # there is no baseline
        return []
    control = yards["control"]
    flags = []
    churn, other = found["churn"]["first_epoch"], yards["another_seed"]["first_epoch"]
    if churn and other and churn["mean"] > _CHURN_SHARE * other["mean"]:
        flags.append(
            f"after the first epoch {churn['mean']:.1f} of 10,000 predictions differ from "
            f"{baseline}'s, more than a tenth of another seed's {other['mean']:.1f}"
        )
    step = str(_FLAGGED_STEP)
    if step in found["divergence"] and step in control["divergence"]:
        # Two losses that round alike are as far apart as float32 can tell.
        least = max(pair.resolution[_FLAGGED_STEP] for pair in pairs)
        by_rounding = max(control["divergence"][step], least)
        if found["divergence"][step] > _CONTROLS_DIVERGENCE * by_rounding:
            flags.append(
                f"the loss at step {step} differs from {baseline}'s by "
                f"{found['divergence'][step]:.1e}, more than {_CONTROLS_DIVERGENCE:g} times what "
                f"rounding does, {by_rounding:.1e}"
            )
    return flags


def _differences(pairs: Sequence[Pair]) -> list[float]:
    return [pair.difference for pair in pairs if pair.difference is not None]


def _can_be_tested(pairs: Sequence[Pair]) -> bool:
    return len(pairs) > 1 and not _are_identical(pairs)


def _are_identical(pairs: Sequence[Pair]) -> bool:
    return all(pair.identical for pair in pairs)
