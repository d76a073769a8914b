"""The gate for equal bits: from run to run, and when eight threads call at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

from torch import Tensor

from opproof.operators import Activation
from opproof.verify.evaluation import difference, evaluate
from opproof.verify.outcome import gate

THREADS = 8
# Each thread's calls, one after another, while the others' go on.
_ROUNDS = 5


@gate
def repeatable(operator: Activation, x: Tensor, shape: tuple[int, ...] | None = None) -> str | None:
    """Compare two evaluations bit by bit, then those of eight threads with each one's alone.

    x is any input, the result of `shape` or of x's.
    """
    first = evaluate(operator, x, shape=shape)
    second = evaluate(operator, x, shape=shape)
    return difference(first, second, "results differ between two calls") or _race(
        operator, x, shape
    )


def _race(operator: Activation, x: Tensor, shape: tuple[int, ...] | None) -> str | None:
    # Each its own input: what threads share would otherwise hold the right values.
    own = [x * (1 - number / 16) for number in range(THREADS)]
    alone = [evaluate(operator, values, shape=shape) for values in own]
    together = threading.Barrier(THREADS)

    def call(number: int) -> str | None:
        together.wait()
        for _ in range(_ROUNDS):
            found = evaluate(operator, own[number], shape=shape)
            if fault := difference(
                alone[number], found, f"results differ when {THREADS} threads call at once"
            ):
                return fault
        return None

    with ThreadPoolExecutor(THREADS) as pool:
        return next(filter(None, pool.map(call, range(THREADS))), None)
