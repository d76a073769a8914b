"""The lines to set in the profile, so that it fits the site."""

import builtins
import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from opproof.doctor import status
from opproof.doctor.profile import Profile, is_gpu, plain, rules
from opproof.doctor.site import Partition, Site
from opproof.settings import Settings
from opproof.slurm import SlurmError


def to_set(profile: Profile, site: Site | None, settings: Settings) -> dict[str, Any]:
    """Return the keys of the profile that have to be other than they are."""
    if site is None or site.error:
        return {}
    way = status.best(profile, site)
    wanted = {
        **(way.lines if way and way != status.used(profile, site) else {}),
        "default-resources": _default_resources(profile, site),
        "set-resources": _set_resources(profile, site, settings),
    }
    present = {
        **profile.content,
        status.SECONDS: status.first_look(profile),
        "default-resources": profile.default_resources,
        "set-resources": profile.set_resources,
    }
    return {key: value for key, value in wanted.items() if value != present.get(key)}


def as_yaml(content: Mapping[str, Any], indent: str = "") -> str:
    """Return a profile's keys as they would be written by hand."""
    text = ""
    for key, value in content.items():
        if isinstance(value, dict) and value:
            text += f"{indent}{key}:\n{as_yaml(value, indent + '  ')}"
        else:
            text += f"{indent}{key}: {_scalar(value)}\n"
    return text


def _scalar(value: Any) -> str:
    if isinstance(value, str) and yaml.safe_load(value) == value:
        return value
    return json.dumps(value)


def _default_resources(profile: Profile, site: Site) -> dict[str, Any]:
    resources = _without_unknown_partition(profile.default_resources, site)
    accounts = () if isinstance(site.accounts, SlurmError) else site.accounts
    if accounts and not profile.accounts <= {*accounts}:
        resources["slurm_account"] = _text(accounts[0])
    if site.refused and "slurm_partition" not in resources and not site.default_partition:
        for partition in [entry for entry in site.partitions if entry.takes_jobs][:1]:
            resources["slurm_partition"] = _text(partition.name)
    return resources


def _set_resources(profile: Profile, site: Site, settings: Settings) -> dict[str, dict[str, Any]]:
    resources = {
        rule: _without_unknown_partition(entries, site)
        for rule, entries in profile.set_resources.items()
    }
    for rule in rules(settings):
        entries = resources.pop(rule, {})
        is_refused = profile.request(rule) in site.refused
        if settings.device == "cpu" or (is_refused and not site.gpu_partitions):
            entries = _without_gpu(entries)
        elif site.gpu_partitions and (is_refused or not profile.asks_for_gpu(rule)):
            entries = {**site.gpu_request, **_without_gpu(entries)}
            if _partition(entries, profile, site) not in site.gpu_partitions:
                entries["slurm_partition"] = _text(site.gpu_partitions[0].name)
        resources[rule] = entries
    return {rule: entries for rule, entries in resources.items() if entries}


def _without_gpu(resources: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in resources.items() if not is_gpu(key, value)}


def _without_unknown_partition(resources: dict[str, Any], site: Site) -> dict[str, Any]:
    """Return the resources without partitions that are not there, where something is refused.

    Some are there and take jobs, but are hidden.
    """
    known = {partition.name for partition in site.partitions}
    asked = set(plain(resources.get("slurm_partition", "")).split(","))
    if not site.refused or asked <= known:
        return resources
    return {key: value for key, value in resources.items() if key != "slurm_partition"}


def _partition(entries: dict[str, Any], profile: Profile, site: Site) -> Partition | None:
    """Return the partition that jobs with these entries in set-resources go to."""
    resources = _default_resources(profile, site) | entries
    if "slurm_partition" not in resources:
        return site.default_partition
    name = plain(resources["slurm_partition"])
    return next((partition for partition in site.partitions if partition.name == name), None)


def _text(name: str) -> str:
    """Return a name as a resource that Snakemake, which evaluates those, leaves as it is."""
    first_word = re.match(r"[^\W\d]\w*", name)
    is_unknown = first_word and not hasattr(builtins, first_word[0])
    return name if is_unknown else f"'{name}'"
