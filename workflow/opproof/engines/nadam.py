"""NAdam over one flat buffer, with what depends on the step alone computed ahead.

The same as torch.optim.NAdam with its defaults, to rounding (Dozat 2016, as torch has it): with
mu_t = 0.9 (1 - 0.5 * 0.96^(0.004 t)), gradient g and moments m and v,

    p -= lr (1 - mu_t) / (1 - mu_1 ... mu_t) g / d + lr mu_{t+1} / (1 - mu_1 ... mu_{t+1}) m / d
    d = sqrt(v / (1 - 0.999^t)) + 1e-8

torch spreads this over each parameter, in dozens of small operations a step.
"""

import numpy as np
import torch
from torch import Tensor

BETA1, BETA2, EPSILON, MOMENTUM_DECAY = 0.9, 0.999, 1e-8, 4e-3


def schedule(steps: int, learning_rate: float) -> Tensor:
    """Return what the steps 1 to `steps` are made with, float32 [steps, 3], computed in float64.

    Of each step the factors of the gradient, of the first moment, and of the second moment's root.
    """
    t = np.arange(1, steps + 1, dtype=np.float64)
    mu, next_mu = _mu(t), _mu(t + 1)
    product = np.cumprod(mu)
    of_gradient = -learning_rate * (1 - mu) / (1 - product)
    of_moment = -learning_rate * next_mu / (1 - product * next_mu)
    of_root = 1 / np.sqrt(1 - BETA2**t)
    return torch.from_numpy(np.stack([of_gradient, of_moment, of_root], axis=1)).float()


def step(
    parameters: Tensor, first_moments: Tensor, second_moments: Tensor, gradient: Tensor, row: Tensor
) -> None:
    """Take a step in place; all float32 of one shape, and a row [3] of the schedule."""
    of_gradient, of_moment, of_root = row.unbind()
    first_moments.lerp_(gradient, 1 - BETA1)
    second_moments.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    change = (gradient * of_gradient).add_(first_moments * of_moment)
    parameters.addcdiv_(change, second_moments.sqrt().mul_(of_root).add_(EPSILON))


def _mu(t: np.ndarray) -> np.ndarray:
    return BETA1 * (1 - 0.5 * 0.96 ** (t * MOMENTUM_DECAY))
