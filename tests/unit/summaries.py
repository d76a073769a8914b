"""What the tests of the summary share: what earlier stages leave, and a reader of the page."""

import csv
import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml

from opproof import __main__, artifact, config, paths, provenance, summary
from opproof.settings import Settings
from opproof.summary.collect import collect

VERIFY = Path("results/verify/mine.json")
TIMING = Path("results/timing/operators.json")
TRAINING = Path("results/timing/training.json")
BLOCKS = (Path("results/train/mine/0/block.json"), Path("results/train/mine/1/block.json"))
SEEDS = (3, 17, 29)
ACCURACY = {3: 98.1, 17: 98.4, 29: 97.9}
REGIONS = ("[0, 12]", "[-12, -5]")
HOLDS = {"holds": True, "detail": "bit by bit"}
NASTY = 'error: a<b> & "c" | *d* :x: [red]e[/red] torch::x::f &lt; </li>'
DAMAGED = "damaged: it does not have the digest written in it; delete it and run the pipeline again"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings whose runs, three of torch and three of mine in two blocks, all went well."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "500")
    settings = config.resolve(
        {
            "backends": ["torch", {"name": "mine", "op": "a:b"}],
            "seeds": [*SEEDS],
            "seeds_per_job": 2,
            "train": {"epochs": 2},
        }
    )
    settings.freeze()
    for backend in settings.backends:
        leave(settings, backend.name)
    timed(row("torch", ratio=None), row("mine"), row("mine", direction="backward", ratio=0.5))
    timed_training(measured("torch", engine="reference"), measured("mine"))
    return settings


def leave(settings: Settings, name: str) -> None:
    """Leave what verification and training do."""
    verified(name)
    for block, seeds in enumerate(settings.blocks()):
        runs = [run(seed, backend=name, block=block) for seed in seeds]
        record = {
            "backend": name,
            "engine": settings.engine,
            "precision": settings.precision,
            "train": dataclasses.asdict(settings.train),
            "not_trained": None,
            "device": "cpu",
            "runs": runs,
            "measurements": {"hardware": "CPU", "gpu": None, "gpu_samples": []},
            "provenance": provenance.of_job(),
        }
        artifact.write_json(Path(f"results/train/{name}/{block}/block.json"), record)


def verified(name: str, **changes: Any) -> None:
    """Leave a verdict: 1.5 ULP everywhere, of F.gelu 1.7e7, and one finding."""
    record = {
        "backend": name,
        "verdict": "pass",
        "expected": "pass",
        "expectation": None,
        "reasons": [],
        "gates": {"usable": "pass"},
        "claim": {"max_ulp": None},
        "device": "cpu",
        "thorough": False,
        "gradient_mse": 1e-17,
        "accuracy": {"float32": errors((1.5, 1.5), (1.5, 1.5))},
        "yardstick_accuracy": {"float32": errors((5.3, 16777214.9), (2.6, 16.1))},
        "findings": {"zeros": HOLDS},
        "yardstick_findings": {"zeros": HOLDS},
    }
    artifact.write_json(Path(f"results/verify/{name}.json"), {**record, **changes})


def errors(
    forward: tuple[float | str, ...], backward: tuple[float | str, ...], absolute: Any = 1.2e-7
) -> dict[str, Any]:
    """Return the errors of a dtype, from those in ULP by region."""
    by_direction = {
        direction: {
            "max_absolute": absolute,
            "regions": {
                region: {"absolute": 1e-7, "relative": 1e-6, "ulp": of_region, "x": 1.0}
                for region, of_region in zip(REGIONS, ulp, strict=True)
            },
        }
        for direction, ulp in (("forward", forward), ("backward", backward))
    }
    by_direction["forward"]["near_root"] = {"absolute": 0.0, "x": None}
    by_direction["backward"]["near_root"] = {"absolute": 5.8e-8, "x": -0.75}
    return by_direction


def timed(*rows: dict[str, Any], **changes: Any) -> None:
    """Leave what timing does."""
    record = {
        "stage": "timing operators",
        "device": "cpu",
        "hardware": "CPU, AVX2",
        "threads": 1,
        "torch": "2.14.1",
        "method": {"rounds": 41, "block_seconds": 0.0005, "margin": 0.03, "confidence": 0.95},
        "rows": rows,
        "copy": [],
        "skipped": [],
        "compile_seconds": 1.5,
        "load": {"before": [0.25, 0.5, 0.5], "after": [1.125, 0.5, 0.5], "cores": 8},
        "provenance": provenance.of_job(),
    }
    artifact.write_json(TIMING, {**record, **changes})


def row(backend: str, ratio: float | None = 2.0, **changes: Any) -> dict[str, Any]:
    """Return a row of 1e6 values, forward, with a ratio of an interval half as wide."""
    interval = ratio and {"low": 0.75 * ratio, "mean": ratio, "high": 1.25 * ratio}
    return {
        "backend": backend,
        "baseline": "torch",
        "operation": "activation",
        "shape": [1_000_000],
        "values": "normal",
        "direction": "forward",
        "mode": "allocated",
        "via": "operator",
        "ratio": interval,
        "verdict": "FASTER" if interval else None,
        "ratios": ratio and [0.75 * ratio, ratio, 1.25 * ratio],
        "outliers": ratio and {"mild": 0, "severe": 0},
        "ns_per_element": 0.375,
        "cpu_ns_per_element": 0.375,
        "copy_percent": 88.0,
        "marks": [],
        "rounds": 41,
        "error": None,
        **changes,
    }


def raised(backend: str, error: str, **changes: Any) -> dict[str, Any]:
    return row(backend, None, error=error, mode=None, via=None, ns_per_element=None, **changes)


def timed_training(*rows: dict[str, Any], **changes: Any) -> None:
    """Leave what timing of training does."""
    record = {
        "stage": "timing training",
        "device": "cpu",
        "hardware": "CPU, AVX2",
        "threads": 1,
        "torch": "2.14.1",
        "precision": "fp32",
        "train": {"epochs": 2, "batch_size": 64, "learning_rate": 0.003},
        "steps": 1876,
        "method": {"rounds": 15, "stretch_seconds": 0.06, "margin": 0.03, "confidence": 0.95},
        "measures": {"step_seconds": "Of a step.", "ratio_to_reference": "Of the times."},
        "rows": rows,
        "marks": [],
        "skipped": [],
        "load": {"before": [0.25, 0.5, 0.5], "after": [1.125, 0.5, 0.5], "cores": 8},
        "provenance": provenance.of_job(),
    }
    artifact.write_json(TRAINING, {**record, **changes})


def measured(backend: str | None, value: float | None = 0.0125, **changes: Any) -> dict[str, Any]:
    """Return a row of the time of training: of a step of engine graph."""
    return {
        "measure": "step_seconds",
        "engine": "graph",
        "backend": backend,
        "seeds": 1,
        "arithmetic": "fp32",
        "value": value,
        "low": None,
        "high": None,
        "verdict": None,
        "samples": 15,
        "error": None,
        **changes,
    }


def run(
    seed: int, failure: str | None = None, backend: str = "mine", block: int | None = None
) -> dict[str, Any]:
    """Leave the arrays of a run of two epochs, or of one if it failed; return its entry."""
    epochs = 1 if failure else 2
    if block is None:
        block = 1 if seed == SEEDS[-1] else 0
    accuracy = [90.0, ACCURACY.get(seed, 97 + seed * 7 % 100 / 50)]
    random = np.random.default_rng(seed)
    loss = random.uniform(1.0, 2.0, 1876).astype(np.float32)
    classes = random.integers(0, 10, 10_000, dtype=np.uint8)
    of_run = {
        "loss": loss if backend == "torch" else np.nextafter(loss, np.float32(2.0)),
        "accuracy": np.array(accuracy[:epochs]),
        "first_predictions": classes,
        "predictions": classes,
    }
    file = f"seed-{seed}.npz"
    digest = artifact.write_arrays(Path("results/train", backend, str(block), file), of_run)
    return {
        "seed": seed,
        "failure": failure,
        "average_loss": [0.25, 0.125 + seed / 1000][:epochs],
        "accuracy": accuracy[:epochs],
        "file": file,
        "sha256": digest,
        "measurements": {"epoch_seconds": [seed / 10, seed / 10 + 1]},
    }


def edit(path: Path, **changes: Any) -> None:
    artifact.write_json(path, {**artifact.read_json(path), **changes})


def all_blocks(**changes: Any) -> None:
    for block in BLOCKS:
        edit(block, **changes)


def flip(path: Path) -> None:
    content = path.read_text()
    path.write_text(re.sub("fp32|pass|cpu", lambda found: found[0][::-1], content))


def unusable(backend: str) -> dict[str, Any]:
    return raised(backend, "does not compile: a.cpp:3", shape=None, values=None, direction=None)


def refused(reason: str) -> None:
    verified("mine", verdict="fail", reasons=[reason], accuracy={}, findings={})
    all_blocks(not_trained="refused by verification", runs=[], device=None, measurements={})


class Page(HTMLParser):
    """The parts of a page; fails where tags are not closed in the order that they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.tables: list[list[list[str]]] = []
        self.items: list[str] = []
        self.captions: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag != "meta":
            self.open.append(tag)
        parts: dict[str, tuple[list[Any], Any]] = {
            "table": (self.tables, []),
            "li": (self.items, ""),
            "caption": (self.captions, ""),
        }
        if tag in parts:
            part, empty = parts[tag]
            part.append(empty)
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        last = next((tag for tag in reversed(self.open) if tag not in ("strong", "code")), "")
        into = {"li": self.items, "caption": self.captions}.get(last)
        if last in ("td", "th"):
            into = self.tables[-1][-1]
        if into is not None:
            into[-1] += data


def in_csv_file() -> list[dict[str, str]]:
    with Path("results/summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def page_of(settings: Settings) -> Page:
    return Page(summary.page.render(collect(settings), []))


def summarise(settings: Settings, *options: str) -> dict[str, Any]:
    """Write the summary and show it; return what summary.json holds."""
    settings.freeze()
    assert __main__.main(["summary", "--config", str(settings.frozen_path), *options]) == 0
    return artifact.read_json(
        Path("results/partial-summary" if options else "results", "summary.json")
    )


def fits_the_schema(written: dict[str, Any]) -> None:
    schema = yaml.safe_load((paths.SCHEMAS / "summary.schema.yaml").read_text())
    jsonschema.Draft202012Validator(schema).validate(written)
