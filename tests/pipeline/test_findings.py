"""Wrong operators and failing runs are findings: shown, counted, and no harm to the others."""

import shutil
from pathlib import Path

import pytest

from .conftest import Workspace

HERE = Path(__file__).parent
FAIL = {"verify": "fail", "reason": "a control"}


@pytest.fixture(autouse=True)
def operators_beside_config(workspace: Workspace) -> None:
    shutil.copy2(HERE / "operators_for_tests.py", workspace.folder)


def test_refused_backends_are_not_trained_and_the_others_are(workspace: Workspace) -> None:
    workspace.configure(
        seeds=[0],
        backends=[
            "torch",
            {"name": "wrong-gradient", "op": "operators_for_tests:wrong_gradient"},
            {"name": "missing", "op": "operators_for_tests:nothing"},
            {"name": "not-callable", "op": "operators_for_tests:not_callable"},
        ],
    )
    run = workspace.snakemake()
    assert run.returncode != 0
    good, *refused = workspace.read("summary.json")["results"]["backends"]
    assert good["seeds_ok"] == 1
    assert [backend["verification"]["verdict"] for backend in refused] == ["fail"] * 3
    assert [backend["seeds_ok"] for backend in refused] == [0] * 3
    for reason in ("backward float32: the largest", "no attribute 'nothing'", "not callable"):
        assert reason in run.stdout  # in the log of the check, which is shown
        assert reason in (workspace.folder / "results/summary.md").read_text()
    assert not (workspace.folder / "results/check.ok").exists()
    assert "Traceback" not in run.stdout


def test_expected_failures_are_trained_and_the_run_passes(workspace: Workspace) -> None:
    wrong = {"name": "wrong", "op": "operators_for_tests:wrong_gradient", "expect": FAIL}
    workspace.configure(seeds=[0], backends=["torch", "tanh", wrong])
    run = workspace.snakemake(COLUMNS="120")  # the table's cells in one line each
    assert run.returncode == 0, run.stdout
    assert "fails as expected" in run.stdout
    backends = workspace.read("summary.json")["results"]["backends"]
    assert [backend["seeds_ok"] for backend in backends] == [1, 1, 1]


def test_an_unexpected_pass_fails_the_run(workspace: Workspace) -> None:
    right = {"name": "right", "op": "operators_for_tests:gelu", "expect": FAIL}
    workspace.configure(seeds=[0], backends=[right])
    run = workspace.snakemake()
    assert run.returncode != 0
    assert "verification says pass, expected was fail" in run.stdout


def test_failed_seeds_are_counted_and_the_others_go_on(workspace: Workspace) -> None:
    workspace.configure(
        seeds=[0, 1],
        seeds_per_job=2,
        backends=[
            {"name": "nan", "op": "operators_for_tests:nan_for_a_while", "expect": FAIL},
            {"name": "raises", "op": "operators_for_tests:raises_in_training"},
        ],
    )
    run = workspace.snakemake()
    assert run.returncode != 0
    nan, raises = workspace.read("summary.json")["results"]["backends"]
    assert [bool(one["failure"]) for one in nan["runs"]] == [True, False]
    assert "loss became nan at step" in nan["runs"][0]["failure"]
    assert (nan["seeds_ok"], nan["seeds_planned"]) == (1, 2)
    assert raises["verification"]["verdict"] == "pass"
    assert "a batch of 600 is too large" in raises["runs"][0]["failure"]
    for words in ("only 1 of 2 seeds ended well", "loss became nan"):
        assert words in run.stdout
