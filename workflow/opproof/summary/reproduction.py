"""What a reader needs to run the same again: the configuration, as config.yaml has it."""

from typing import Any

import yaml

from opproof.backends import BACKENDS
from opproof.settings import GELU, Backend, Settings


def configuration(settings: Settings) -> str:
    """Return YAML from which the same settings are resolved, with every key."""
    train, data = vars(settings.train), vars(settings.data)
    keys = {
        "output": settings.output,
        "backends": [_backend(settings, backend) for backend in settings.backends],
        "seeds": _seeds(settings.seeds),
        "device": settings.device,
        "engine": settings.engine,
        "precision": settings.precision,
        "timing": settings.timing,
        "margin": settings.margin,
        "seeds_per_job": settings.seeds_per_job,
        "build": vars(settings.build),
        "train": train,
        "data": {**data, "sources": [*data["sources"]]},
    }
    return yaml.safe_dump(keys, sort_keys=False, allow_unicode=True, width=100)


def _backend(settings: Settings, backend: Backend) -> str | dict[str, Any]:
    if BACKENDS.get(backend.name) == backend:
        return backend.name
    entry: dict[str, Any] = {"name": backend.name}
    library = settings.library(backend.library) if backend.library else None
    if library and library.header:
        entry["header"] = library.header
    else:
        entry["op"] = backend.op
        if library:
            entry["sources"] = [*library.sources]
    if backend.reference != GELU:
        entry["reference"] = backend.reference
    if backend.max_ulp is not None:
        entry["max_ulp"] = backend.max_ulp
    if backend.expect:
        entry["expect"] = vars(backend.expect)
    return entry


def _seeds(seeds: tuple[int, ...]) -> list[int] | dict[str, int]:
    if seeds == tuple(range(seeds[0], seeds[0] + len(seeds))):
        return {"first": seeds[0], "count": len(seeds)}
    return [*seeds]
