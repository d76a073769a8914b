"""The profile for SLURM, as far as a site may refuse what it asks for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from opproof.errors import UserError
from opproof.paths import TREE
from opproof.settings import Settings

_PATH = Path("slurm") / "config.yaml"

# How the executor plugin hands resources to sbatch.
_OPTIONS = {
    "slurm_partition": "--partition",
    "slurm_account": "--account",
    "qos": "--qos",
    "constraint": "--constraint",
    "gpu": "--gpus",
    "gres": "--gres",
    "mem_mb": "--mem",
    "runtime": "--time",
}
# Anything else is a formula, which only Snakemake evaluates.
_KNOWN = re.compile(r"[^\s'\"]+")
_NUMBER = re.compile(r"([\w.]+:)?\d+")
_NUMBERS = ("gpu", "mem_mb", "runtime")


@dataclass(frozen=True)
class Profile:
    """A profile of Snakemake, as its file has it."""

    path: Path
    content: Mapping[str, Any]

    @property
    def default_resources(self) -> dict[str, Any]:
        """What every job asks for."""
        return _mapping(self.content.get("default-resources"))

    @property
    def accounts(self) -> set[str]:
        """The accounts that jobs may be charged to, as SLURM writes them: in lower case."""
        words = re.split(r"[,\s]+", plain(self.default_resources.get("slurm_account", "")))
        return {word.lower() for word in words if word}

    @property
    def set_resources(self) -> dict[str, dict[str, Any]]:
        """What a rule's jobs ask for besides, by rule."""
        entries = _mapping(self.content.get("set-resources"))
        return {rule: _mapping(resources) for rule, resources in entries.items()}

    def resources(self, rule: str) -> dict[str, Any]:
        """Return what the profile asks for a rule's jobs."""
        return self.default_resources | self.set_resources.get(rule, {})

    def asks_for_gpu(self, rule: str) -> bool:
        """Return whether a rule's jobs ask for a GPU."""
        return any(value and is_gpu(key, value) for key, value in self.resources(rule).items())

    def request(self, rule: str) -> tuple[str, ...]:
        """Return the options of sbatch that this makes, without those that are formulas."""
        resources = {key: plain(value) for key, value in self.resources(rule).items() if value}
        if model := resources.get("gpu_model"):
            resources["gpu"] = f"{model}:{resources.get('gpu', 1)}"
        return tuple(
            f"{option}={resources[key]}"
            for key, option in _OPTIONS.items()
            if (_NUMBER if key in _NUMBERS else _KNOWN).fullmatch(resources.get(key, ""))
        )


def rules(settings: Settings) -> tuple[str, ...]:
    """Return the rules whose jobs go to SLURM; the others run where Snakemake does."""
    timing = ("timing_operators", "timing_training") if settings.timing else ()
    return ("verify", "train", *timing)


def read() -> Profile:
    """Read slurm/config.yaml of the working folder, or else the one that OpProof brings along.

    Raises UserError if it can't be read or is no profile.
    """
    path = _PATH if _PATH.exists() else TREE / _PATH
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a profile: it has no keys")
    return Profile(path, content)


def is_gpu(key: str, value: Any) -> bool:
    """Return whether a resource asks for a GPU."""
    return key in ("gpu", "gpu_model") or (key == "gres" and "gpu" in str(value))


def plain(value: Any) -> str:
    """Return a resource as SLURM gets it: without the quotes that keep it from being evaluated."""
    return str(value).strip("\"'")


def _mapping(value: Any) -> dict[str, Any]:
    """Return resources, which may also be written as a list of name=value, as a mapping."""
    if isinstance(value, list):
        return dict(str(entry).split("=", 1) for entry in value if "=" in str(entry))
    return dict(value) if isinstance(value, dict) else {}
