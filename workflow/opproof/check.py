"""The check stage: fails unless the results are whole and every verdict is as expected."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from opproof import against, artifact, damage
from opproof.paths import SCHEMAS

# How many faults are told: Snakemake shows the log, and of thousands of runs as many may fail.
_SHOWN = 50

# What is timed, among the measurements.
_TIMINGS = {"operators": "the operators were", "training_time": "the training was"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `opproof check`."""
    parser.add_argument("results", type=Path, help="folder that holds summary.json")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="SUMMARY",
        help="an earlier summary.json: fail where something is worse than there",
    )


def main(args: argparse.Namespace) -> int:
    """Print what is wrong with the results; return 1 if anything is, 0 if nothing."""
    summary = artifact.read_json(args.results / "summary.json")
    faults = list(_schema_faults(summary, "summary.json")) or [
        *_faults(summary["results"]),
        *_device_faults(summary),
        *_timing_faults(summary),
        *_file_faults(summary, args.results),
        *(_regressions(summary, args.against) if args.against else ()),
    ]
    for fault in faults[:_SHOWN]:
        print(f"check failed: {fault}")
    if len(faults) > _SHOWN:
        print(f"check failed: {len(faults) - _SHOWN} faults more; summary.json has every run")
    if not faults:
        print(f"check passed: {len(summary['results']['backends'])} backends, every run as planned")
    return 1 if faults else 0


def _schema_faults(summary: dict[str, Any], name: str) -> Iterator[str]:
    schema = yaml.safe_load((SCHEMAS / "summary.schema.yaml").read_text())
    for error in jsonschema.Draft202012Validator(schema).iter_errors(summary):
        yield f"{name}: {error.json_path}: {error.message}"


def _regressions(summary: dict[str, Any], path: Path) -> Iterator[str]:
    """Yield what is worse than in the earlier summary, or why that can't be told."""
    earlier = artifact.read_json(path)
    faults = list(_schema_faults(earlier, str(path)))
    yield from faults or against.regressions(summary, earlier)


def _file_faults(summary: dict[str, Any], folder: Path) -> Iterator[str]:
    """Yield the files of the summary, and the arrays of its runs, that are not as they were."""
    blocks = [f"train/{job['backend']}/{job['block']}" for job in summary["provenance"]["jobs"]]
    for record in ("summary.json", *(f"{block}/block.json" for block in blocks)):
        if fault := damage.fault(folder / record):
            yield fault


def _faults(results: dict[str, Any]) -> Iterator[str]:
    for backend in results["backends"]:
        name, verification = backend["name"], backend["verification"]
        if verification["verdict"] != verification["expected"]:
            yield (
                f"{name}: verification says {verification['verdict']}, "
                f"expected was {verification['expected']}"
                + "".join(f"\n  {reason}" for reason in verification["reasons"])
            )
        seeds = [run["seed"] for run in backend["runs"]]
        if sorted(set(seeds)) != sorted(results["seeds"]) or len(set(seeds)) != len(seeds):
            yield f"{name}: its runs are not one for each seed of the plan"
        if backend["seeds_ok"] < backend["seeds_planned"]:
            ok, planned = backend["seeds_ok"], backend["seeds_planned"]
            yield f"{name}: only {ok} of {planned} seeds ended well"
        if verification["expected"] == "pass":
            yield from _training_faults(name, backend["comparison"])
        for run in backend["runs"]:
            epochs = len(run["accuracy"])
            if run["failure"]:
                yield f"{name}: seed {run['seed']}: {run['failure']}"
            elif epochs != results["train"]["epochs"]:
                yield f"{name}: seed {run['seed']}: {epochs} epochs are not what was planned"


def _training_faults(name: str, comparison: dict[str, Any] | None) -> Iterator[str]:
    """Yield that training with a backend is proven to come to something else, and what shows it."""
    if comparison is None:
        return
    if comparison["verdict"] == "DIFFERENT":
        yield f"{name}: its accuracy is DIFFERENT from {comparison['baseline']}'s"
    for flag in comparison["flags"]:
        yield f"{name}: flagged: {flag}"


def _device_faults(summary: dict[str, Any]) -> Iterator[str]:
    backends = summary["results"]["backends"]
    devices = {device for backend in backends for device in backend["devices"]}
    if len(devices) > 1:
        yield f"runs of one comparison are on different devices: {', '.join(sorted(devices))}"
    for kind, what in _TIMINGS.items():
        timed = summary["measurements"][kind].get("device")
        if timed and devices and timed not in devices:
            yield f"{what} timed on {timed}, the runs are on {', '.join(sorted(devices))}"


def _timing_faults(summary: dict[str, Any]) -> Iterator[str]:
    """Yield what is missing of the timing, and what raised there although verification passed.

    That a refused backend raises, expected or not, and torch.compile, which is nobody's backend, is
    shown in the summary alone.
    """
    for kind, what in _TIMINGS.items():
        timing = summary["measurements"][kind]
        if "missing" in timing:
            if summary["provenance"]["configuration"]["timing"]:
                yield f"{what} not timed: {timing['missing']}"
            continue
        for backend in summary["results"]["backends"]:
            if all(row["backend"] != backend["name"] for row in timing["rows"]):
                yield (
                    f"{backend['name']}: {what} not timed with it; delete the folder timing "
                    "beside summary.json and run the pipeline again"
                )
        passed = {
            backend["name"]
            for backend in summary["results"]["backends"]
            if backend["verification"]["verdict"] == "pass"
        }
        of_all = {None}  # what is measured for all backends at once
        for name, of, error in _errors(timing):
            if name in passed | of_all:
                yield f"{name}: timing of {of}: {error}" if name else f"timing of {of}: {error}"


def _errors(timing: dict[str, Any]) -> Iterator[tuple[str | None, str, str]]:
    """Yield backend, what was timed, and what was raised, each once."""
    found = (
        (row["backend"], row["operation"] if "operation" in row else _trained(row), row["error"])
        for row in timing["rows"]
        if row["error"]
    )
    yield from dict.fromkeys(found)


def _trained(row: dict[str, Any]) -> str:
    return " ".join(filter(None, ("training", row["engine"], row["measure"])))
