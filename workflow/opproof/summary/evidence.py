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

    pairs: of each backend that is not its own baseline, those seeds that both have trained to the
    end.
    controls: by baseline, of its controls likewise.
    another_seed: by baseline and epoch as in Pair.churn, how many predictions differ between a seed
    and the one before it.
    unreadable: why arrays could not be read, by backend and seed.
    """

    pairs: dict[str, list[Pair]]
    controls: dict[str, list[Pair]]
    another_seed: dict[str, dict[str, list[int]]]
    unreadable: dict[tuple[str, int], str] = field(default_factory=dict)


def gather(
    settings: Settings,
    blocks: Mapping[str, Blocks],
    takers: Sequence[Callable[[str, int, Arrays], None]],
) -> Evidence:
    """Return the evidence of all runs; give each also to the `takers`: backend, seed, arrays."""
    baselines = {backend.name: settings.baseline(backend) for backend in settings.backends}
    files = {name: _files(settings, name, of, "runs") for name, of in blocks.items()}
    controls = {
        baseline: _files(settings, baseline, blocks[baseline], "controls")
        for baseline in dict.fromkeys(baselines.values())
        if baseline in blocks
    }
    evidence = Evidence(
        pairs={name: [] for name, baseline in baselines.items() if name != baseline},
        controls={baseline: [] for baseline in controls},
        another_seed={baseline: {epoch: [] for epoch in PREDICTIONS} for baseline in controls},
    )
    before: dict[str, Arrays] = {}
    for seed in settings.seeds:
        runs = dict(_read(seed, files, evidence))
        for name, arrays in runs.items():
            for take in takers:
                take(name, seed, arrays)
        for name in evidence.pairs.keys() & runs.keys():
            if (expected := runs.get(baselines[name])) is not None:
                evidence.pairs[name].append(pair(seed, expected, runs[name]))
        for baseline, of_seeds in controls.items():
            if baseline in runs:
                _take_baseline(evidence, baseline, seed, runs[baseline], of_seeds, before)
    return evidence


def _take_baseline(
    evidence: Evidence,
    baseline: str,
    seed: int,
    run: Arrays,
    controls: dict[int, tuple[Path, str]],
    before: dict[str, Arrays],
) -> None:
    """Hold a baseline's run beside its control, and beside that `before` it, which it becomes."""
    if seed in controls:
        with suppress(UserError):  # damaged: the next run heals it, and the others are enough
            control = artifact.read_arrays(*controls[seed])
            evidence.controls[baseline].append(pair(seed, run, control))
    if baseline in before:
        for epoch, changed in evidence.another_seed[baseline].items():
            changed.append(churn(before[baseline], run, epoch))
    before[baseline] = run


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
