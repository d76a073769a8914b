"""Times functions against each other in interleaved blocks.

A block calls one function for about 0.5 ms, and a round has one block of each. The rounds are
Williams' Latin square: everyone comes at every place, and after everyone else, equally often. A
machine that slows down, or that somebody else uses for a while, so hits all alike, and a ratio is
taken within a round. A block begins with untimed calls, a quarter as many: what the one before left
in the processor's caches is not charged, and they are as warm as they can be.

On a CPU a block is measured in wall time and in time of the thread. Ratios are of wall time less
what the thread has waited for a core that somebody else had. On a GPU two events enclose it:
calls are launched back to back and nothing waits, so a figure is the kernels' time where that is
longer than launching them, else the launches' (what eager code pays); a function that replays a
CUDA graph shows the kernels' alone.
"""

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from opproof.errors import BackendError
from opproof.operators import MACHINE_FAULTS

# Short blocks and many: F.gelu against itself on two busy cores, in the same 2 s, had intervals of
# 9 to 11 % from 21 blocks of 2 ms, 6 % from 41 of 1 ms, and 1 to 2 % from 81 of 0.5 ms, of which
# another process's turn spoils fewer.
BLOCK = 5e-4  # seconds
ROUNDS = 41

_SCHEDSTAT = Path("/proc/thread-self/schedstat")

_WARM_UP = 4  # one untimed call for so many timed ones
_LONG = 1e-2  # seconds: a call that is so long warms itself, in no time of its own
_TRIES = 10


@dataclass(frozen=True)
class Sample:
    """Seconds per call in one block.

    By the clock, of the thread on the CPU (None: a GPU), and those that it has waited for a core.
    """

    wall: float
    cpu: float | None
    queued: float = 0.0

    @property
    def compared(self) -> float:
        """The seconds that ratios are of."""
        return max(self.wall - self.queued, self.cpu or 0.0)

    def per(self, count: int) -> "Sample":
        """Return the same of each of so many that a call comes to."""
        cpu = None if self.cpu is None else self.cpu / count
        return Sample(self.wall / count, cpu, self.queued / count)


Function = Callable[[], object]
Clock = Callable[[Function, int], Sample]


def measure(
    functions: Sequence[Function], where: torch.device, rounds: int
) -> list[list[Sample] | Exception]:
    """Return for each function a sample per round, or what it raised; the others go on.

    Raises what is the machine's fault.
    """
    clock = _on_gpu if where.type == "cuda" else _on_cpu
    outcomes: list[list[Sample] | Exception] = [[] for _ in functions]
    calls: dict[int, tuple[int, int]] = {}  # in a block: untimed, timed
    order = itertools.chain(range(len(functions)), *_order(len(functions), rounds))
    with _without_garbage_collection():
        for index in order:
            samples, function = outcomes[index], functions[index]
            if isinstance(samples, Exception):
                continue
            try:
                if index not in calls:
                    calls[index] = _calls_per_block(function, clock)
                else:
                    untimed, timed = calls[index]
                    for _ in range(untimed):
                        function()
                    samples.append(clock(function, timed))
            except MACHINE_FAULTS:
                raise
            except Exception as error:  # somebody's code: what it raises is a finding about it
                outcomes[index] = error
    return outcomes


def medians(samples: Sequence[Sample]) -> Sample:
    """Return the median of each time."""
    cpu = [sample.cpu for sample in samples if sample.cpu is not None]
    wall = statistics.median(sample.wall for sample in samples)
    return Sample(wall, statistics.median(cpu) if cpu else None)


def worded(error: Exception) -> str:
    """Return what a function has raised as one line."""
    kind = "" if isinstance(error, BackendError) else f"{type(error).__name__}: "
    return f"{kind}{error}".splitlines()[0]


def _order(count: int, rounds: int) -> Iterator[list[int]]:
    """Yield the order of each round (Williams, Aust. J. Sci. Res. A 2 (1949) 149)."""
    zigzag = [(index + 1) // 2 if index % 2 else -(index // 2) for index in range(count)]
    for start in range(rounds if count else 0):
        order = [(start + place) % count for place in zigzag]
        # An odd number takes two squares, one backwards, until each has come after each.
        yield order[::-1] if start // count % 2 else order


def _calls_per_block(function: Function, clock: Clock) -> tuple[int, int]:
    """Warm the function up and return how many calls a block has, untimed and timed.

    So many as its fastest call says, not its first: who is cold or disturbed then would have
    shorter blocks than the others, and a short block is a slow one.
    """
    calls = 1
    while (seconds := clock(function, calls).compared) * calls < BLOCK / 2:
        calls *= 2
    # Twice: who was only disturbed would have blocks of one cold call.
    if seconds > _LONG and clock(function, calls).compared > _LONG:
        return 0, 1
    fastest = min(clock(function, calls).compared for _ in range(_TRIES))
    timed = max(1, round(BLOCK / fastest))
    return -(-timed // _WARM_UP), timed


def _on_cpu(function: Function, calls: int) -> Sample:
    queued, thread, wall = _queued(), time.thread_time(), time.perf_counter()
    for _ in range(calls):
        function()
    wall, thread = time.perf_counter() - wall, time.thread_time() - thread
    return Sample(wall, thread, _queued() - queued).per(calls)


def _queued() -> float:
    """Return the seconds that this thread was ready and had no core (sched-stats.rst of Linux)."""
    try:
        return int(_SCHEDSTAT.read_text().split()[1]) / 1e9
    except OSError:  # a kernel that keeps no such account
        return 0.0


def _on_gpu(function: Function, calls: int) -> Sample:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        function()
    end.record()
    end.synchronize()
    return Sample(start.elapsed_time(end) / 1e3 / calls, None)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Keep Python from collecting in whichever block happens to be running."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
