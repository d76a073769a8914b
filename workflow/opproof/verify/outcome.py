"""What a check comes to: a fault in one line, or a finding; an operator's exception is either."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec

from opproof.operators import MACHINE_FAULTS

_P = ParamSpec("_P")


@dataclass(frozen=True)
class Finding:
    """Whether a property holds, None where it was not checked, and what was seen or why not."""

    holds: bool | None
    detail: str | None = None


def in_one_line(error: Exception) -> str:
    """Word what an operator raised. Raises it again where it is the machine's fault."""
    if isinstance(error, MACHINE_FAULTS):
        raise error
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]


def gate(check: Callable[_P, str | None]) -> Callable[_P, str | None]:
    """Let a check that returns a fault, or None, return what the operator raises as a fault."""

    @functools.wraps(check)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> str | None:
        try:
            return check(*args, **kwargs)
        except Exception as error:  # the operator is somebody's code: what it raises is the fault
            return in_one_line(error)

    return guarded


def finding(check: Callable[_P, Finding]) -> Callable[_P, Finding]:
    """Let a check that returns a finding return what the operator raises as one."""

    @functools.wraps(check)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> Finding:
        try:
            return check(*args, **kwargs)
        except Exception as error:
            return Finding(False, in_one_line(error))

    return guarded
