"""What a check has found: how it stands, what it is, and what to do where it is not well."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAULT = "FAULT"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """One line of a report, and one more with what to do."""

    state: State
    text: str
    advice: str | None = None


@dataclass(frozen=True)
class Section:
    """Findings about one subject."""

    heading: str
    findings: list[Finding]


def ok(text: str) -> Finding:
    """Return what is as it should be, or only to be known."""
    return Finding(State.OK, text)


def warning(text: str, advice: str) -> Finding:
    """Return what lets the pipeline run, but not as well as it could."""
    return Finding(State.WARNING, text, advice)


def fault(text: str, advice: str) -> Finding:
    """Return what would make the pipeline fail."""
    return Finding(State.FAULT, text, advice)
