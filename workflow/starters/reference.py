"""What OPERATOR_NAME is to compute: here SiLU. Put your own in its place."""

from torch import Tensor
from torch.nn import functional as F


def OPERATOR_NAME(x: Tensor) -> Tensor:
    """Return it element by element, by functions of torch: right in float64, and differentiable.

    In float64 it is the truth, so mind where digits cancel. In the other dtypes it is the yardstick
    of accuracy, twice whose error is allowed, and of speed; its training is what is compared with.
    """
    return F.silu(x)
