"""`opproof doctor`: whether this machine, and its SLURM, are ready for a pipeline.

Nothing is written, and torch is not imported, which takes seconds.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from opproof import arguments
from opproof.doctor import cluster, data, earlier, folders, jobs, lines, machine, profile, report
from opproof.doctor.finding import Finding, Section, State, ok
from opproof.doctor.question import Question
from opproof.doctor.site import look

# What is not known by then is not waited for: with Python's own start that is below ten.
_SECONDS = 7.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `opproof doctor`."""
    arguments.add_config(parser)


def main(args: argparse.Namespace) -> int:
    """Print what was found; return 1 if a pipeline would fail here, else 0.

    Raises UserError where the settings or the profile have faults.
    """
    settings, asks, here = arguments.read_settings(args), profile.read(), Path.cwd()
    requests = {asks.request(rule) for rule in profile.rules(settings)}
    site = Question(lambda: look(here, requests), _SECONDS)
    gpus = Question(machine.gpus, _SECONDS)
    checks: dict[str, Callable[[], list[Finding]]] = {
        "SLURM": lambda: cluster.check(site),
        f"Profile {asks.path}": lambda: jobs.check(asks, site, settings),
        "Python": lambda: machine.check_packages(site),
        "Compilers": lambda: machine.check_compilers(settings, gpus, site),
        "GPUs": lambda: machine.check_gpus(settings, gpus, site),
        "Folders": lambda: folders.check(here, settings, site),
        "Data": lambda: data.check(settings.data),
        "Earlier runs": lambda: earlier.check(here, settings, site),
    }
    asked = {heading: Question(check, _SECONDS) for heading, check in checks.items()}
    file = arguments.config_file(args)
    runs = f"{len(settings.backends)} backends x {len(settings.seeds)} seeds"
    summary = f"{file}: {runs}, device {settings.device}, into {settings.output}"
    sections = [
        Section("Configuration", [ok(summary)]),
        *(Section(heading, _findings(question)) for heading, question in asked.items()),
    ]
    report.show(sections, lines.to_set(asks, site.answer(), settings))
    found = {finding.state for section in sections for finding in section.findings}
    return int(State.FAULT in found)


def _findings(question: Question[list[Finding]]) -> list[Finding]:
    """Return a check's findings, or that it has none: the others are still to be seen."""
    try:
        return question.answer()
    except Exception as error:
        return [Finding(State.UNKNOWN, str(error) or type(error).__name__)]
