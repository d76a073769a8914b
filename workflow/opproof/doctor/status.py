"""Which command can tell the executor plugin its jobs' states: squeue, or sacct, or neither."""

import re
from dataclasses import dataclass
from typing import Any

from opproof.doctor.finding import Finding, fault, ok, warning
from opproof.doctor.profile import Profile
from opproof.doctor.site import Site

COMMAND = "slurm-status-command"
SECONDS = "slurm-init-seconds-before-status-checks"

_DEFAULT_SECONDS = 40  # the plugin's
# It looks every so many seconds; with each look without news it waits 10 more, up to these.
_LONGEST_WAIT = 180
# Where sacct is there, it takes squeue only if ended jobs are remembered for so many first waits.
_WAITS = 3

_ASK = "ask your administrators for MinJobAge = 300 in slurm.conf"


@dataclass(frozen=True)
class Way:
    """The command, and the seconds until the first look."""

    command: str
    seconds: int

    @property
    def lines(self) -> dict[str, Any]:
        """The keys of the profile that ask for it."""
        return {COMMAND: self.command, SECONDS: self.seconds}

    def __str__(self) -> str:
        return " and ".join(f"{key}: {value}" for key, value in self.lines.items())


def best(profile: Profile, site: Site) -> Way | None:
    """Return what the profile should ask for, near what it does; None if nothing would do.

    squeue wherever it can: with sacct the plugin (2.8.0) takes cancelled jobs for running.
    """
    seconds, age = first_look(profile), _age(site)
    seconds_of_squeue = min(seconds, age // _WAITS) if site.has_sacct else seconds
    if seconds_of_squeue > 0 and (_lasts(age) or not _has_working_sacct(site)):
        return Way("squeue", seconds_of_squeue)
    return Way("sacct", seconds) if _has_working_sacct(site) else None


def judge(profile: Profile, site: Site) -> Finding:
    """Say what the plugin would use under this profile, and whether that tells it of every job."""
    present, age, way = used(profile, site), _age(site), best(profile, site)
    if way is None or (present.command == "sacct" and not _has_working_sacct(site)):
        return fault(
            "every job would be lost from sight: the plugin would ask sacct, which does not know "
            f"them ({_why_sacct(profile, site)})",
            f"set {way}" if way else _ASK,
        )
    if present == way and way.command == "squeue" and _lasts(age):
        remembered = f"for {age} s" if age else "for ever"
        return ok(f"squeue tells the jobs' states, of ended ones {remembered} (MinJobAge)")
    weakness = (
        "takes a cancelled one for running"
        if present.command == "sacct"
        else f"forgets ended ones after {age} s (MinJobAge), and may be asked only every 180 s"
    )
    text = f"{present.command} tells the jobs' states, but {weakness}"
    return warning(text, _ASK if present == way else f"set {way}")


def used(profile: Profile, site: Site) -> Way:
    """Return what the plugin makes of the profile's choice."""
    seconds = first_look(profile)
    command = profile.content.get(COMMAND) or "sacct"
    if command == "squeue" and _age(site) < _WAITS * seconds:
        command = "sacct"
    return Way(command if site.has_sacct else "squeue", seconds)


def _why_sacct(profile: Profile, site: Site) -> str:
    if profile.content.get(COMMAND) != "squeue":
        return f"{COMMAND} is not squeue"
    return f"not squeue: MinJobAge, {_age(site)} s, is below {_WAITS} x {first_look(profile)} s"


def _has_working_sacct(site: Site) -> bool:
    return site.has_sacct and site.has_accounting and site.sacct_error is None


def first_look(profile: Profile) -> int:
    """Return the seconds until the plugin's first look."""
    seconds = profile.content.get(SECONDS)
    return seconds if isinstance(seconds, int) else _DEFAULT_SECONDS


def _age(site: Site) -> int:
    """Return for how many seconds SLURM remembers an ended job."""
    match = re.match(r"\d+", site.config.get("MinJobAge", ""))
    return int(match[0]) if match else 0


def _lasts(age: int) -> bool:
    """Return whether an ended job is remembered until the plugin's next look; 0 is for ever."""
    return age == 0 or age > _LONGEST_WAIT
