"""How training with each backend compares with the baseline's, seed by seed, in tables."""

from collections.abc import Iterator
from typing import Any

from opproof.summary.pairs import PREDICTIONS, STEPS
from opproof.summary.table import NOTHING, Section, Table, number, one_name, with_interval

_TITLE = "Training, compared by seed"
_ACCURACY = [
    "backend",
    "verdict",
    "pairs",
    "difference, points [95 %]",
    "p equivalent",
    "p different",
    "proven margin",
    "seeds needed",
]


def section(summary: dict[str, Any]) -> Section:
    """Return the tables; none where nothing was compared."""
    results = summary["results"]
    compared = [
        (backend["name"], backend["comparison"])
        for backend in results["backends"]
        if backend["comparison"] and backend["comparison"]["seeds"]
    ]
    if not compared:
        return Section(_TITLE, "", [])
    tables = [
        Table("accuracy after the last epoch", _ACCURACY, [_accuracy(*one) for one in compared]),
        Table(
            "what accuracy does not see",
            [
                "backend",
                "churn, first epoch",
                "churn, last epoch",
                *(f"loss apart at step {step}" for step in STEPS),
            ],
            [*_sensitive(results, compared)],
        ),
    ]
    return Section(_TITLE, " ".join(_text([found for _, found in compared])), tables)


def _accuracy(name: str, comparison: dict[str, Any]) -> list[str]:
    margin, needed = comparison["provable_margin"], comparison["seeds_needed"]
    return [
        name,
        comparison["verdict"] + ", flagged" * bool(comparison["flags"]),
        str(comparison["seeds"]),
        with_interval(comparison, "+.3f"),
        _p(comparison["p_equivalent"]),
        _p(comparison["p_different"]),
        NOTHING if margin is None else f"±{margin:.3f}",
        NOTHING if needed is None else str(needed),
    ]


def _sensitive(
    results: dict[str, Any], compared: list[tuple[str, dict[str, Any]]]
) -> Iterator[list[str]]:
    baselines = dict.fromkeys(found["baseline"] for _, found in compared)
    for baseline in baselines:
        family = [(name, found) for name, found in compared if found["baseline"] == baseline]
        yards = results["yardsticks"].get(baseline)
        of = f" of {baseline}" if len(baselines) > 1 else ""
        controls = [(f"control{of}: an ULP", yards["control"])] if yards else []
        for name, found in (*family, *controls):
            apart = (found["divergence"].get(str(step)) for step in STEPS)
            yield [name, *_churn(found["churn"]), *(_apart(one) for one in apart)]
        if yards:
            another = _churn(yards["another_seed"])
            yield [f"another seed{of}", *another, *[NOTHING] * len(STEPS)]


def _churn(churn: dict[str, Any]) -> Iterator[str]:
    return (with_interval(churn[epoch], ".1f") for epoch in PREDICTIONS)


def _apart(value: float | None) -> str:
    return number(value) if not value else f"{value:.1e}"


def _p(value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _text(compared: list[dict[str, Any]]) -> Iterator[str]:
    baseline = one_name((found["baseline"] for found in compared), "the baseline")
    yield (
        f"Each run beside {baseline}'s of the same seed: the same initial weights, the same order "
        "of the samples. IDENTICAL: every step's loss has the same bits. EQUIVALENT: two one-sided "
        f"t tests prove that the mean difference is within ±{compared[0]['margin']:g} points, the "
        "margin of the configuration. DIFFERENT: that is not proven, and a difference is. "
        "INCONCLUSIVE: neither. p, adjusted by Holm over the backends, is significant below 0.05. "
        "The proven margin is the least that these runs prove; so many seeds are needed to prove "
        "the configuration's, with a power of 80 %, if nothing is different and the spread stays."
    )
    yield (
        "Churn: of the 10,000 test images, how many are predicted as another class than by "
        f"{baseline}. The control is {baseline} itself with each initial weight moved by an ULP, "
        "trained for an epoch: what rounding alone does. After ten epochs rounding has carried "
        "every run nearly as far as another seed; a wrong operator shows after the first, and in "
        "the losses. FLAGGED is a churn after the first epoch above a tenth of another seed's, and "
        "a loss at step 10 that is a hundred times as far off as the control's."
    )
