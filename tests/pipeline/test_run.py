"""A run as a user makes it: what it leaves, what the next one does, and what an edit reruns."""

import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from opproof.paths import SCHEMAS

from .conftest import Workspace, clone

BACKENDS = ("torch", "python", "cpp", "fused", "pooled")
LIBRARIES = ("aten_gelu", "gelu")
WHOLE: dict[str, Any] = {"build": {}, "timing": True}  # the defaults
SEEDS = (0, 1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, mnist_folder: Path) -> Workspace:
    """A finished run, in a path with a space; tests read it and leave it as it is."""
    workspace = clone(tmp_path_factory.mktemp("a run"), mnist_folder)
    workspace.configure(**WHOLE, seeds=list(SEEDS))
    run = workspace.snakemake()
    (workspace.folder / "printed").write_text(run.stdout)
    assert run.returncode == 0, run.stdout
    return workspace


@pytest.fixture
def copy(finished: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the finished run, to change."""
    shutil.copytree(finished.folder, tmp_path / "copy")
    return Workspace(tmp_path / "copy", finished.mnist)


def test_every_stage_leaves_its_files(finished: Workspace) -> None:
    blocks = [f"train/{name}/{block}" for name in BACKENDS for block in range(len(SEEDS))]
    expected = {"summary.json", "summary.csv", "summary.md", "report.html"}
    expected |= {"check.ok", "timing/operators.json", "timing/training.json"}
    expected |= {f"build/{name}/build.json" for name in LIBRARIES}
    expected |= {f"build/{name}/{name}.so" for name in LIBRARIES}
    expected |= {f"verify/{name}.json" for name in BACKENDS}
    expected |= {f"{block}/block.json" for block in blocks}
    expected |= {f"{block}/seed-{block[-1]}.npz" for block in blocks}
    stages = [f"build/{name}" for name in LIBRARIES] + [f"verify/{name}" for name in BACKENDS]
    stages += [*blocks, "timing/operators", "timing/training", "summary"]
    expected |= {f"logs/{stage}.log" for stage in (*stages, "check")}
    expected |= {f"benchmarks/{stage}.tsv" for stage in (*stages, "check")}
    assert expected <= finished.files()


def test_nothing_temporary_is_left(finished: Workspace) -> None:
    assert not [path for path in finished.files() if "tmp" in path or "checkpoint" in path]


def test_summary_fits_its_schema_and_holds_every_run(finished: Workspace) -> None:
    summary = finished.read("summary.json")
    schema = yaml.safe_load((SCHEMAS / "summary.schema.yaml").read_text())
    jsonschema.Draft202012Validator(schema).validate(summary)
    for backend, name in zip(summary["results"]["backends"], BACKENDS, strict=True):
        assert backend["name"] == name
        assert [run["seed"] for run in backend["runs"]] == list(SEEDS)
        assert backend["seeds_ok"] == backend["seeds_planned"] == len(SEEDS)
        assert backend["verification"]["verdict"] == "pass"
        assert backend["accuracy"]["mean"] > 80


def test_table_and_path_of_the_report_are_printed(finished: Workspace) -> None:
    printed = (finished.folder / "printed").read_text()
    for words in (*BACKENDS, "accuracy, %", "report.html"):
        assert words in printed


def test_runs_pair_by_seed_across_backends(finished: Workspace) -> None:
    losses = {
        (name, seed): np.load(finished.folder / f"results/train/{name}/{seed}/seed-{seed}.npz")[
            "loss"
        ]
        for name in BACKENDS
        for seed in SEEDS
    }
    for seed in SEEDS:
        for name in BACKENDS:
            np.testing.assert_allclose(losses[name, seed], losses["torch", seed], atol=1e-3)
    assert np.abs(losses["torch", 0] - losses["torch", 1]).max() > 0.01


@pytest.mark.parametrize("backend", BACKENDS)
def test_tensorboard_reads_the_curves(finished: Workspace, backend: str) -> None:
    events = EventAccumulator(
        str(finished.folder / f"results/tensorboard/{backend}/seed-1"),
        size_guidance={"scalars": 0},
    ).Reload()
    arrays = np.load(finished.folder / f"results/train/{backend}/1/seed-1.npz")
    loss = [(event.step, event.value) for event in events.Scalars("Loss/Train")]
    assert loss == list(enumerate(arrays["loss"].tolist(), start=1))
    accuracy = [event.value for event in events.Scalars("Accuracy/Test")]
    np.testing.assert_allclose(accuracy, arrays["accuracy"], rtol=1e-6)


def test_second_run_does_nothing(copy: Workspace) -> None:
    run = copy.snakemake()
    assert run.returncode == 0
    assert "nothing to be done" in run.stdout.lower()


def test_a_part_of_the_pipeline_shows_no_table_of_an_earlier_run(copy: Workspace) -> None:
    copy.configure(seeds=list(SEEDS), backends=["cpp"])
    run = copy.snakemake("--forcerun", "build", "--until", "build")
    assert run.returncode == 0, run.stdout
    assert "accuracy" not in run.stdout


def test_arrays_that_are_not_there_any_more_are_put_there_again(copy: Workspace) -> None:
    missing = copy.folder / "results/train/torch/0/seed-0.npz"
    damaged = copy.folder / "results/train/cpp/1/seed-1.npz"
    before = missing.read_bytes(), damaged.read_bytes()
    missing.unlink()
    damaged.write_bytes(b"")
    run = copy.snakemake()
    assert run.returncode == 0, run.stdout
    assert "results/train/torch/0/seed-0.npz: missing; it is made again" in run.stdout
    assert "results/train/cpp/1/seed-1.npz: damaged: " in run.stdout
    assert (missing.read_bytes(), damaged.read_bytes()) == before
    for block in ("torch/0", "cpp/1"):
        assert "trained before" in copy.log(f"train/{block}.log")


def test_dry_run_plans_every_job_and_writes_nothing(workspace: Workspace) -> None:
    workspace.configure(**WHOLE, seeds={"count": 3})
    jobs = {"build": 3, "verify": 5, "train": 15, "timing_operators": 1}
    jobs |= {"timing_training": 1, "summary": 1, "check": 1, "all": 1}
    assert workspace.planned() == jobs
    assert not (workspace.folder / "results").exists()


def test_more_seeds_train_only_the_new_ones(copy: Workspace) -> None:
    copy.configure(**WHOLE, seeds=[0, 1, 2])
    assert copy.planned() == {"train": 5, "summary": 1, "check": 1, "all": 1}


def test_without_timing_only_the_summary_is_made_again(copy: Workspace) -> None:
    copy.configure(seeds=list(SEEDS), build={}, timing=False)
    assert copy.planned() == {"summary": 1, "check": 1, "all": 1}


def test_other_blocks_reuse_the_runs_that_are_there(copy: Workspace) -> None:
    copy.configure(seeds=[2, 1, 0], seeds_per_job=3, backends=["torch"])
    before = copy.read("summary.json")["results"]["backends"][0]["runs"]
    assert copy.snakemake().returncode == 0
    lines = copy.log("train/torch/0.log").splitlines()
    assert [lines.count(f"torch seed {seed}: trained before") for seed in (2, 1, 0)] == [0, 1, 1]
    after = copy.read("summary.json")["results"]["backends"][0]["runs"]
    assert after[:0:-1] == before


@pytest.mark.parametrize(
    ("edit", "rerun"),
    [
        pytest.param(("workflow/opproof/verify/checks.py", "4 *", "5 *"), {"verify"}, id="gate"),
        pytest.param(
            ("workflow/opproof/engines/graph.py", "250", "500"),
            {"train", "timing_training"},
            id="engine",
        ),
        pytest.param(
            ("workflow/opproof/lenet.py", "AvgPool2d", "MaxPool2d"),
            {"train", "timing_training"},
            id="network",
        ),
        pytest.param(("workflow/opproof/check.py", "ended well", "ended"), {"check"}, id="check"),
        pytest.param(("csrc/aten_gelu.cpp", "0.5 *", "0.50 *"), {"build"}, id="C++"),
        pytest.param(("csrc/scalar.h", "#pragma once", "#pragma once //"), {"build"}, id="header"),
        pytest.param(
            ("workflow/opproof/rules.py", "empty_like", "zeros_like"), {"build"}, id="rules"
        ),
        pytest.param(
            ("workflow/opproof/timing/blocks.py", "ROUNDS = ", "ROUNDS = 1 + "),
            {"timing_operators", "timing_training"},
            id="timing",
        ),
        pytest.param(
            ("workflow/opproof/timing/cases.py", "(64, 256)", "(64, 128)"),
            {"timing_operators"},
            id="timing of operators",
        ),
        pytest.param(
            ("workflow/opproof/timing/training.py", "ROUNDS = ", "ROUNDS = 1 + "),
            {"timing_training"},
            id="timing of training",
        ),
        pytest.param(("workflow/opproof/loading.py", "auto", "off"), set(), id="opproof.load"),
        pytest.param(
            ("workflow/opproof/lenet.py", '"""Two', '"""A pair of'), set(), id="docstring"
        ),
        pytest.param(("workflow/opproof/train/run.py", "# Seconds", "# In s"), set(), id="comment"),
    ],
)
def test_an_edit_reruns_what_it_can_change(
    copy: Workspace, edit: tuple[str, str, str], rerun: set[str]
) -> None:
    name, old, new = edit
    file = copy.folder / name
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    after = {
        "build": {"verify", "timing_operators", "timing_training"},
        "verify": {"train"},
        "train": {"summary"},
        "timing_operators": {"summary"},
        "timing_training": {"summary"},
        "summary": {"check"},
    }
    while (more := rerun.union(*(after.get(stage, set()) for stage in rerun))) != rerun:
        rerun = more
    assert set(copy.planned()) - {"all"} == rerun


def test_another_compiler_rebuilds(copy: Workspace, tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "c++ 99" || exec c++ "$@"\n')
    compiler.chmod(0o755)
    assert copy.planned(CXX=str(compiler)) == {
        "build": 3,
        "verify": 3,
        "train": 6,
        "timing_operators": 1,
        "timing_training": 1,
        "summary": 1,
        "check": 1,
        "all": 1,
    }


@pytest.mark.parametrize(("device", "threads"), [("cpu", set()), ("cuda", {"threads: 2"})])
def test_a_gpu_of_this_machine_has_one_job_at_a_time(
    workspace: Workspace, device: str, threads: set[str]
) -> None:
    """A job takes all cores there, of two."""
    workspace.configure(backends=["torch"], seeds=[0], device=device)
    planned = workspace.snakemake("--dry-run").stdout
    rules = dict(re.findall(r"^(?:local)?rule (\w+):\n((?: +.*\n)+)", planned, re.MULTILINE))
    assert rules.keys() >= {"verify", "train"}
    for name in ("verify", "train"):
        assert set(re.findall(r"threads: \d+", rules[name])) == threads
