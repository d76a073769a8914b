"""Whether SLURM takes the jobs as the profile sends them, and tells what becomes of them."""

from collections.abc import Iterator

from opproof.doctor import lines, status
from opproof.doctor.finding import Finding, fault, ok, warning
from opproof.doctor.profile import Profile, rules
from opproof.doctor.question import Question
from opproof.doctor.site import Site
from opproof.settings import Settings
from opproof.slurm import SlurmError

_LINES = "set the lines at the end"


def check(profile: Profile, asked: Question[Site | None], settings: Settings) -> list[Finding]:
    """Say where profile, site and settings do not fit together; nothing without a SLURM."""
    site = asked.answer()
    if site is None or site.error:
        return []
    to_set = lines.to_set(profile, site, settings)
    return [
        status.judge(profile, site),
        *_account(profile, site),
        *_requests(profile, site, settings, _LINES if to_set else "ask your administrators"),
        *_gpus(profile, site, settings),
        *([] if to_set or site.refused else [ok("it fits: there is no line to set")]),
    ]


def _account(profile: Profile, site: Site) -> Iterator[Finding]:
    if isinstance(site.accounts, SlurmError) or not site.accounts:
        return
    for account in sorted(profile.accounts - {*site.accounts}):
        yield fault(
            f"slurm_account: {account} is not yours, and the plugin sends no job for it",
            f"one of {', '.join(site.accounts)}",
        )


def _requests(profile: Profile, site: Site, settings: Settings, advice: str) -> Iterator[Finding]:
    """Say what sbatch --test-only, which sends nothing, makes of each kind of job."""
    requests: dict[tuple[str, ...], list[str]] = {}
    for rule in rules(settings):
        requests.setdefault(profile.request(rule), []).append(rule)
    for options, names in requests.items():
        jobs = f"jobs of {', '.join(names)} ({' '.join(options) or 'without options'})"
        if error := site.refused.get(options):
            yield fault(f"SLURM refuses {jobs}: {error}", advice)
        else:
            yield ok(f"SLURM takes {jobs}")


def _gpus(profile: Profile, site: Site, settings: Settings) -> Iterator[Finding]:
    asking = {rule for rule in rules(settings) if profile.asks_for_gpu(rule)}
    others = ", ".join(rule for rule in rules(settings) if rule not in asking)
    if settings.device == "cpu":
        if asking:
            yield warning("device is cpu, but jobs ask for a GPU", _LINES)
    elif not site.gpu_partitions and (others or site.refused):
        if settings.device == "cuda":
            yield fault("device is cuda, but no partition has a GPU", "set device: cpu")
    elif others and settings.device == "cuda":
        yield fault(f"device is cuda, but no GPU is asked for by {others}", _LINES)
    elif others:
        yield warning(f"no GPU is asked for by {others}", f"{_LINES}, or device: cpu")
    elif settings.device == "auto":
        yield warning(
            "device is auto: blocks of seeds are planned as for a CPU", "set device: cuda"
        )
