"""What a seed's run shows beside the baseline's run of the same seed."""

from dataclasses import dataclass

import numpy as np

Arrays = dict[str, np.ndarray]

# Of the arrays, the predictions after an epoch.
PREDICTIONS = {"first_epoch": "first_predictions", "last_epoch": "predictions"}

# The steps, from 1 on, at which losses are compared: rounding grows with every step.
STEPS = (1, 10, 50, 200)


@dataclass(frozen=True)
class Pair:
    """Two runs from the same seed, where both have it.

    identical: every step's loss has the same bits.
    difference: of the accuracy after the last epoch, the baseline's taken off, in points; None of a
    control, which has one epoch.
    churn: of the test images, how many are predicted as another class, by epoch as in PREDICTIONS.
    divergence: by step, how far the losses are apart.
    resolution: the distance of float32 numbers at the baseline's loss, by step.
    """

    seed: int
    identical: bool
    difference: float | None
    churn: dict[str, int]
    divergence: dict[int, float]
    resolution: dict[int, float]


def pair(seed: int, baseline: Arrays, run: Arrays) -> Pair:
    """Compare the arrays of two runs that ended well; see RunRecord."""
    steps = min(len(baseline["loss"]), len(run["loss"]))
    whole = len(baseline["accuracy"]) == len(run["accuracy"])
    expected, found = baseline["loss"][:steps], run["loss"][:steps]
    of_steps = [step for step in STEPS if step <= steps]
    return Pair(
        seed,
        identical=found.tobytes() == expected.tobytes(),
        difference=_difference(baseline, run) if whole else None,
        churn={
            epoch: churn(baseline, run, epoch)
            for epoch in PREDICTIONS
            if whole or epoch == "first_epoch"
        },
        divergence={
            step: abs(float(found[step - 1]) - float(expected[step - 1])) for step in of_steps
        },
        resolution={step: float(np.spacing(expected[step - 1])) for step in of_steps},
    )


def _difference(baseline: Arrays, run: Arrays) -> float:
    # Per cents of 10,000 images, without the noise of their last bits.
    return round(float(run["accuracy"][-1] - baseline["accuracy"][-1]), 6)


def churn(one: Arrays, other: Arrays, epoch: str) -> int:
    """Return how many predictions differ after an epoch, "first_epoch" or "last_epoch"."""
    array = PREDICTIONS[epoch]
    return int((one[array] != other[array]).sum())
