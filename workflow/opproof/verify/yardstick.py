"""What a backend is held to, and beside: the truth of its reference, and torch's own errors."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from opproof import operators
from opproof.operators import Activation
from opproof.settings import short_name
from opproof.verify import truth
from opproof.verify.truth import Truth


@dataclass(frozen=True)
class Yardstick:
    """A reference: its name, its function of torch, and the truth of it.

    The function in the dtype under test is the yardstick: twice its own error is allowed.
    """

    name: str
    activation: Activation
    truth: Truth

    @property
    def pooled(self) -> Callable[[Tensor], Tensor]:
        """The activation, a 2x2 average pool and the activation, one after another."""
        return lambda x: self.activation(F.avg_pool2d(self.activation(x), 2))


@functools.cache
def of(reference: str) -> Yardstick:
    """Return that of "package.module:function". Raises BackendError as truth.of."""
    known = truth.of(reference)
    activation = operators.resolve_reference(reference)
    return Yardstick(short_name(reference), activation, known)
