"""Gathers what verification, training and timing left; what is missing is shown as such.

`results` hold neither clock nor host nor attempt: they are equal for equal input. What depends on
the machine stands in `measurements` and `provenance`.
"""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from opproof import artifact, provenance
from opproof.errors import UserError
from opproof.settings import Backend, Settings, short_name
from opproof.summary import comparison
from opproof.summary.evidence import Evidence, gather
from opproof.summary.interval import mean_with_interval
from opproof.summary.pairs import Arrays

FORMAT = 1


def collect(
    settings: Settings, takers: Sequence[Callable[[str, int, Arrays], None]] = ()
) -> dict[str, Any]:
    """Return the summary of what there is for these settings; schema: summary.schema.yaml.

    The arrays of each run that ended well are also given to the `takers`: backend, seed, arrays.
    """
    verdicts = {backend.name: _verdict(settings, backend) for backend in settings.backends}
    blocks = {backend.name: _blocks(settings, backend) for backend in settings.backends}
    baselines = {backend.name: settings.baseline(backend) for backend in settings.backends}
    evidence = gather(settings, blocks, takers)
    compared = comparison.compare(evidence, baselines, settings.margin)
    operators = _timing(settings, "operators")
    timing = operators.pop("provenance", None)
    training_time = _timing(settings, "training")
    timing_of_training = training_time.pop("provenance", None)
    return {
        "format": FORMAT,
        "results": {
            **settings.plan(),
            "seeds": list(settings.seeds),
            "yardsticks": comparison.yardsticks(evidence),
            "backends": [
                {
                    **_result(
                        settings, backend, verdicts[backend.name], blocks[backend.name], evidence
                    ),
                    "comparison": compared.get(backend.name),
                }
                for backend in settings.backends
            ],
        },
        "measurements": {
            "training": {name: _measurements(found) for name, found in blocks.items()},
            "operators": operators,
            "training_time": training_time,
        },
        "provenance": {
            **provenance.of_run(),
            "configuration": dataclasses.asdict(settings),
            "jobs": [
                {"backend": name, "block": number, **block["provenance"]}
                for name, found in blocks.items()
                for number, block in enumerate(found)
                if "provenance" in block
            ],
            "timing": timing,
            "timing_of_training": timing_of_training,
        },
    }


def _verdict(settings: Settings, backend: Backend) -> dict[str, Any]:
    """Return what verification left, or a verdict "missing" with the reason."""
    try:
        record = artifact.read_json(Path(settings.output) / "verify" / f"{backend.name}.json")
        del record["backend"]
    except (UserError, KeyError) as error:
        expected = backend.expect.verify if backend.expect else "pass"
        return {"verdict": "missing", "expected": expected, "reasons": [str(error)]}
    return record


def _timing(settings: Settings, kind: str) -> dict[str, Any]:
    """Return what a kind of timing left, or {"missing": reason} where it is not there."""
    if not settings.timing:
        return {"missing": "timing is false in the configuration"}
    path = Path(settings.output) / "timing" / f"{kind}.json"
    try:
        record = artifact.read_json(path)
    except UserError as error:
        return {"missing": str(error)}
    if settings.device not in ("auto", record["device"]):
        return {"missing": f"{path}: timed on {record['device']}"}
    return record


def _blocks(settings: Settings, backend: Backend) -> list[dict[str, Any]]:
    """Return each planned block's record, or {"missing": reason} for one that is not there."""
    return [_block(settings, backend, number) for number in range(len(settings.blocks()))]


def _block(settings: Settings, backend: Backend, number: int) -> dict[str, Any]:
    path = Path(settings.output) / "train" / backend.name / str(number) / "block.json"
    try:
        record = artifact.read_json(path)
    except UserError as error:
        return {"missing": str(error)}
    wanted = settings.plan()
    if settings.device != "auto" and not record.get("not_trained"):
        wanted["device"] = settings.device
    if any(record.get(key) != value for key, value in wanted.items()):
        return {"missing": f"{path}: trained with other settings"}
    return record


def _result(
    settings: Settings,
    backend: Backend,
    verdict: dict[str, Any],
    blocks: list[dict[str, Any]],
    evidence: Evidence,
) -> dict[str, Any]:
    runs = [
        _run(seed, block, evidence.unreadable.get((backend.name, seed)))
        for seeds, block in zip(settings.blocks(), blocks, strict=True)
        for seed in seeds
    ]
    good = [run["accuracy"][-1] for run in runs if run["failure"] is None]
    return {
        "name": backend.name,
        "op": short_name(backend.op),
        "reference": short_name(backend.reference),
        "baseline": settings.baseline(backend),
        "verification": verdict,
        "devices": sorted({block["device"] for block in blocks if block.get("device")}),
        "seeds_planned": len(runs),
        "seeds_ok": len(good),
        "accuracy": mean_with_interval(good),
        "runs": runs,
    }


def _run(seed: int, block: dict[str, Any], unreadable: str | None) -> dict[str, Any]:
    """Return a seed's run, or one that says why it is not there."""
    for run in block.get("runs", []):
        if run["seed"] == seed and not unreadable:
            wanted = ("seed", "failure", "average_loss", "accuracy", "sha256")
            return {key: run[key] for key in wanted}
    failure = block.get("missing") or unreadable or block["not_trained"]
    failure = failure or "its job did not train it"
    return {"seed": seed, "failure": failure, "average_loss": [], "accuracy": [], "sha256": None}


def _measurements(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = [
        epoch
        for block in blocks
        for run in block.get("runs", [])
        for epoch in run["measurements"]["epoch_seconds"]
    ]
    found = [block["measurements"] for block in blocks if block.get("measurements")]
    return {
        "seconds_per_epoch": statistics.median(seconds) if seconds else None,
        "hardware": sorted({measured["hardware"] for measured in found}),
        "gpu": [measured["gpu"] for measured in found if measured["gpu"]],
    }
