"""What the examples are to compute that torch has no function of: right in float64, differentiable.

Of SiLU and Mish torch has them: torch.nn.functional:silu and torch.nn.functional:mish.
"""

import torch
from torch import Tensor


def relu_squared(x: Tensor) -> Tensor:
    """Return the square of ReLU, element by element."""
    return torch.relu(x) ** 2
