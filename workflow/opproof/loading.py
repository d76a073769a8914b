"""A proven operator for a model of one's own: what `opproof.load` returns, and where that is."""

import contextlib
import functools
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from opproof import (
    artifact,
    build,
    codebase,
    library,
    operators,
    permissions,
    sources,
    toolchain,
)
from opproof.backends import BACKENDS, LIBRARIES
from opproof.errors import UserError
from opproof.settings import Backend, Build, Library, Settings

# As the configuration's own defaults.
_DEFAULT_BUILD = Build(cuda="auto", cuda_arch_list="8.0;9.0+PTX")


class Operator(nn.Module):
    """An operator as a module without parameters; call it, or use it as a layer.

    Differentiable twice, in reverse mode; traced by torch.compile as one node; under autocast it
    computes in the dtype that it is given. Pickling keeps the name, by which it is found again.
    """

    def __init__(self, name: str, config: Path | None = None, pooled: bool = False) -> None:
        super().__init__()
        self.name = name
        self.config = config
        self.pooled = pooled
        self._find()

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to a floating tensor; pooled, to [..., height, width], and halve both."""
        return self._operator(x)

    def extra_repr(self) -> str:
        return f"{self.name!r}, pooled=True" if self.pooled else repr(self.name)

    def __getstate__(self) -> dict[str, Any]:
        # An operator of torch's registry can't be pickled, nor need it be.
        return {key: value for key, value in self.__dict__.items() if key != "_operator"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._find()

    def _find(self) -> None:
        self._operator = find(self.name, self.config, self.pooled)


def find(name: str, config: Path | None, pooled: bool = False) -> operators.Activation:
    """Return the operator of a backend: of those built in, or of a configuration file's.

    Raises UserError and BackendError as `opproof.load`.
    """
    if config is None and name in BACKENDS:
        return _built_in(name, pooled)
    settings = _settings(config) if config else _settings_here(name)
    libraries = {entry.name: entry for entry in settings.libraries}
    backend, output = settings.backend(name), Path(settings.output)
    return _resolve(backend, libraries, settings.build, output, pooled)


@functools.cache  # copies of a model find theirs at once
def _built_in(name: str, pooled: bool) -> operators.Activation:
    return _resolve(BACKENDS[name], LIBRARIES, _DEFAULT_BUILD, Path("results"), pooled)


def _resolve(
    backend: Backend, libraries: Mapping[str, Library], choice: Build, output: Path, pooled: bool
) -> operators.Activation:
    # That one is there for nothing else.
    pooled = pooled or backend == BACKENDS["pooled"]
    if pooled and backend.pooled is None:
        raise UserError(f"{backend.name!r} has no pooled operator; allowed: pooled=False")
    if backend.library:
        output = _folder_with(libraries[backend.library], choice, output)
    if pooled and (operator := operators.resolve_pooled(backend, output)):
        return operator
    return operators.resolve(backend, output)


def _settings_here(name: str) -> Settings:
    """Return the settings of the working folder's config.yaml, which has a backend of that name."""
    here = Path("config.yaml")
    settings = _settings(here) if here.exists() else None
    names = [backend.name for backend in settings.backends] if settings else []
    if settings is None or name not in names:
        allowed = ", ".join(dict.fromkeys([*BACKENDS, *names]))
        raise UserError(f"{name!r} is no operator; allowed: {allowed}")
    return settings


def _settings(path: Path) -> Settings:
    from opproof import config  # needs jsonschema and yaml, which are not asked for otherwise

    return config.load(path)


def _folder_with(entry: Library, choice: Build, output: Path) -> Path:
    """Return the pipeline's output folder if it has the library, else the cache that then has."""
    if library.record_path(output, entry.name).exists():
        return output
    cache = _cache(entry, choice)
    permissions.require_own(cache.parent, cache, *cache.rglob("*"))
    permissions.require_closed(cache.parent)
    if not library.record_path(cache, entry.name).exists():
        with contextlib.redirect_stdout(sys.stderr):  # stdout is the caller's
            build.build(entry, choice, cache)
    return cache


def _cache(entry: Library, choice: Build) -> Path:
    """Return the folder of the user's cache for the library: another one for all that matters."""
    digest = artifact.json_digest(
        {
            "files": [artifact.file_digest(path) for path in sources.files(entry)],
            "toolchain": toolchain.describe(),
            "build": [choice.cuda, choice.cuda_arch_list],
            "torch": torch.version.cuda,
            "code": codebase.digest("build"),
        }
    )
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "opproof" / digest[:16]
