"""Reads the arrays of every run once, and keeps what the comparison needs of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opproof import artifact
from opproof.errors import UserError
from opproof.settings import Settings
from opproof.summary.pairs import PREDICTIONS, Arrays, Pair, churn, pair

# Of each planned block of a backend its record, or {"missing": reason}.
Blocks = Sequence[dict[str, Any]]


@dataclass
class Evidence:
    """What the arrays show.

    pairs: of each backend but the baseline, those seeds that both have trained to the end.
    controls: of the baseline's controls, likewise.
    another_seed: by epoch as in Pair.churn, how many predictions of the baseline differ between a
    seed and the one before it.
    unreadable: why arrays could not be read, by backend and seed.
    """

    pairs: dict[str, list[Pair]]
    controls: list[Pair] = field(default_factory=list)
    another_seed: dict[str, list[int]] = field(
        default_factory=lambda: {epoch: [] for epoch in PREDICTIONS}
    )
    unreadable: dict[tuple[str, int], str] = field(default_factory=dict)


def gather(
    settings: Settings,
    blocks: Mapping[str, Blocks],
    takers: Sequence[Callable[[str, int, Arrays], None]],
) -> Evidence:
    """Return the evidence of all runs; give each also to the `takers`: backend, seed, arrays."""
    baseline = settings.baseline
    files = {name: _files(settings, name, of, "runs") for name, of in blocks.items()}
    controls = (
        _files(settings, baseline, blocks[baseline], "controls") if baseline in blocks else {}
    )
    evidence = Evidence({name: [] for name in blocks if name != baseline})
    before: Arrays | None = None
    for seed in settings.seeds:
        runs = dict(_read(seed, files, evidence))
        for name, arrays in runs.items():
            for take in takers:
                take(name, seed, arrays)
        if (expected := runs.get(baseline)) is None:
            continue
        for name in evidence.pairs.keys() & runs.keys():
            evidence.pairs[name].append(pair(seed, expected, runs[name]))
        if seed in controls:
            with suppress(UserError):  # damaged: the next run heals it, and the others are enough
                control = artifact.read_arrays(*controls[seed])
                evidence.controls.append(pair(seed, expected, control))
        if before is not None:
            for epoch, changed in evidence.another_seed.items():
                changed.append(churn(before, expected, epoch))
        before = expected
    return evidence


def _files(
    settings: Settings, backend: str, blocks: Blocks, kind: str
) -> dict[int, tuple[Path, str]]:
    """Return by seed the file with the arrays, and its SHA-256, of those that ended well."""
    folder = Path(settings.output) / "train" / backend
    return {
        entry["seed"]: (folder / str(number) / entry["file"], entry["sha256"])
        for number, (seeds, block) in enumerate(zip(settings.blocks(), blocks, strict=True))
        for entry in block.get(kind, [])
        if entry["failure"] is None and entry["seed"] in seeds
    }


def _read(
    seed: int, files: Mapping[str, dict[int, tuple[Path, str]]], evidence: Evidence
) -> Iterator[tuple[str, Arrays]]:
    """Yield the backends that have the seed, and their arrays; note those that can't be read."""
    for backend, of_seeds in files.items():
        if seed in of_seeds:
            try:
                yield backend, artifact.read_arrays(*of_seeds[seed])
            except UserError as error:
                evidence.unreadable[backend, seed] = str(error)
