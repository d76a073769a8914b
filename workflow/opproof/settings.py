"""The settings of a pipeline: resolved and frozen by the controller, read by every job.

Needs the standard library alone, so that a job runs in a Python without Snakemake or jsonschema.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from opproof import artifact
from opproof.errors import UserError

# What an operator is held to where the settings name nothing else.
GELU = "torch.nn.functional:gelu"


@dataclass(frozen=True)
class Expectation:
    """What verification must say of a backend ("pass" or "fail"), and why."""

    verify: str
    reason: str


@dataclass(frozen=True)
class Library:
    """C++ and CUDA sources that are compiled together.

    A `header` is what sources of csrc/ written over "an activation" are compiled for: one of
    csrc/activations/, or a `user`'s, in the working folder, where sources without a header lie too.
    """

    name: str
    sources: tuple[str, ...]
    header: str | None = None
    user: bool = False


@dataclass(frozen=True)
class Backend:
    """An activation to prove.

    `op` names a callable of one tensor: "package.module:function", or "namespace::operator" for one
    registered by `library`, the name of a library of the build stage (None: nothing to build).
    `pooled` names one that is activation, 2x2 average pool and activation in one; `step` the
    library of whole training steps with it, for engine kernel. `reference` is what it is to
    compute, "package.module:function": backends of one reference are a family. `max_ulp` is what
    the backend claims: no float32 result on [-12, 12] is further from the truth.
    """

    name: str
    op: str
    library: str | None = None
    pooled: str | None = None
    step: str | None = None
    reference: str = GELU
    max_ulp: float | None = None
    expect: Expectation | None = None


@dataclass(frozen=True)
class Training:
    """What determines a run besides its backend, seed, engine and precision."""

    epochs: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class DataSources:
    """Where MNIST is kept and where it comes from; `timeout` in seconds."""

    folder: str
    sources: tuple[str, ...]
    timeout: float


@dataclass(frozen=True)
class Build:
    """Whether CUDA sources are compiled ("auto", "on", "off"), and for which GPUs."""

    cuda: str
    cuda_arch_list: str


@dataclass(frozen=True)
class Settings:
    """The whole configuration, with defaults filled in and every name resolved."""

    output: str
    backends: tuple[Backend, ...]
    libraries: tuple[Library, ...]
    build: Build
    seeds: tuple[int, ...]
    device: str
    engine: str
    precision: str
    timing: bool
    seeds_per_job: int
    margin: float
    train: Training
    data: DataSources

    def backend(self, name: str) -> Backend:
        """Return the backend of that name. Raises UserError if the settings have none."""
        return _named(name, self.backends, "backend")

    def library(self, name: str) -> Library:
        """Return the library of that name. Raises UserError if the settings have none."""
        return _named(name, self.libraries, "library")

    def library_of_training(self, backend: Backend) -> str | None:
        """Return the name of the library that a backend is trained with, None if it needs none."""
        return backend.step if self.engine == "kernel" else backend.library

    def plan(self) -> dict[str, Any]:
        """Return how runs are trained, whatever the backend, as the record of a block says it."""
        return {
            "engine": self.engine,
            "precision": self.precision,
            "train": asdict(self.train),
        }

    def blocks(self) -> list[tuple[int, ...]]:
        """Return the seeds of each training job of a backend; a block's number is its index."""
        size = self.seeds_per_job
        return [self.seeds[start : start + size] for start in range(0, len(self.seeds), size)]

    def baseline(self, backend: Backend) -> str:
        """Return the name of the backend whose runs its own are compared with, by the same engine.

        Of GELU's that is torch, or erf, which engine kernel can train; of another family its first.
        """
        if backend.reference == GELU:
            return "erf" if self.engine == "kernel" else "torch"
        return next(b.name for b in self.backends if b.reference == backend.reference)

    @property
    def frozen_path(self) -> Path:
        """Where the controller leaves these settings for the jobs: other settings, another file."""
        name = artifact.json_digest(asdict(self))[:12]
        return Path(self.output) / "config" / f"{name}.json"

    def freeze(self) -> None:
        """Write the settings to `frozen_path`. Raises UserError if they can't be written."""
        artifact.write_json(self.frozen_path, asdict(self))


def short_name(op: str) -> str:
    """Return "package.module:function" as a reader knows it: "F.gelu" for torch's."""
    return op.replace("torch.nn.functional:", "F.").replace(":", ".")


def read(path: Path) -> Settings:
    """Read frozen settings. Raises UserError if they are missing, damaged or another version's."""
    content = artifact.read_json(path)
    try:
        return from_dict(content)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not the settings of this version of OpProof; run the pipeline again"
        ) from error


def from_dict(content: dict[str, Any]) -> Settings:
    """Build Settings from what `asdict` made of them."""
    return Settings(
        **{
            **content,
            "backends": tuple(_backend(entry) for entry in content["backends"]),
            "libraries": tuple(_library(entry) for entry in content["libraries"]),
            "build": Build(**content["build"]),
            "seeds": tuple(content["seeds"]),
            "train": Training(**content["train"]),
            "data": DataSources(
                **{**content["data"], "sources": tuple(content["data"]["sources"])}
            ),
        }
    )


def _library(entry: dict[str, Any]) -> Library:
    return Library(**{**entry, "sources": tuple(entry["sources"])})


def _backend(entry: dict[str, Any]) -> Backend:
    expect = entry["expect"]
    return Backend(**{**entry, "expect": Expectation(**expect) if expect else None})


_Named = TypeVar("_Named", Backend, Library)


def _named(name: str, entries: tuple[_Named, ...], kind: str) -> _Named:
    for entry in entries:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in entries) or "none"
    raise UserError(f"{kind} {name!r}: not in the settings; allowed: {known}")
