"""Shows findings in a terminal, or as plain text where there is none."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from opproof.doctor import lines
from opproof.doctor.finding import Finding, Section, State

_STYLES = {
    State.OK: "green",
    State.WARNING: "yellow",
    State.FAULT: "bold red",
    State.UNKNOWN: "magenta",
}
_INDENT = " " * 11


def show(sections: list[Section], to_set: Mapping[str, Any]) -> None:
    """Print the sections, the keys to set in the profile, and a last line that sums up."""
    console = Console(soft_wrap=True)
    for section in sections:
        if section.findings:
            console.print(Text(section.heading, style="bold"))
        for finding in section.findings:
            state = (f"  {finding.state:<9}", _STYLES[finding.state])
            first, *others = _wrapped(finding, console.width - len(_INDENT))
            console.print(Text.assemble(state, first))
            for line in others:
                console.print(Text(_INDENT + line))
    if to_set:
        console.print(Text("Lines for the profile, in place of the same keys", style="bold"))
        console.print(Text(lines.as_yaml(to_set).rstrip()))
    console.print(Text(_sum(sections), style="bold"))


def _wrapped(finding: Finding, width: int) -> Iterator[str]:
    """Yield lines of a finding; a path is not broken, so that it can be copied."""
    advice = [f"-> {finding.advice}"] if finding.advice else []
    for text in (finding.text, *advice):
        yield from textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _sum(sections: list[Section]) -> str:
    states = [finding.state for section in sections for finding in section.findings]
    counts = [
        f"{count} {word}{'' if count == 1 else 's'}"
        for word, state in (("fault", State.FAULT), ("warning", State.WARNING))
        if (count := states.count(state))
    ]
    verdict = "Not ready" if State.FAULT in states else "Ready"
    return f"{verdict}: {', '.join(counts)}." if counts else f"{verdict}."
