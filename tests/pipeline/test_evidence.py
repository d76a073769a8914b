"""What a run on real MNIST proves of operators that are right, the same, and wrong."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.pipeline.conftest import Workspace, clone, needs_root

CONTROL = {"verify": "fail", "reason": "half of the gradient is missing"}


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory, mnist_folder: Any) -> Workspace:
    """A finished run: F.gelu twice, the textbook's formula, and a wrong gradient."""
    workspace = clone(tmp_path_factory.mktemp("evidence"), mnist_folder)
    shutil.copy2(Path(__file__).with_name("operators_for_tests.py"), workspace.folder)
    workspace.configure(
        backends=[
            "torch",
            {"name": "again", "op": "torch.nn.functional:gelu"},
            "python",
            {"name": "wrong", "op": "operators_for_tests:wrong_gradient", "expect": CONTROL},
        ],
        seeds={"count": 3},
        train={"epochs": 2, "batch_size": 200},
    )
    run = workspace.snakemake()
    assert run.returncode == 0, run.stdout
    return workspace


def compared(workspace: Workspace) -> dict[str, dict[str, Any]]:
    backends = workspace.results()["backends"]
    return {backend["name"]: backend["comparison"] for backend in backends}


def test_an_operator_is_identical_to_itself(proven: Workspace) -> None:
    """The A/A control of training."""
    found = compared(proven)["again"]
    assert (found["verdict"], found["seeds"], found["flags"]) == ("IDENTICAL", 3, [])
    assert {row["difference"] for row in found["differences"]} == {0.0}
    assert found["churn"]["last_epoch"]["high"] == 0.0


def test_another_rounding_is_neither_identical_nor_flagged(proven: Workspace) -> None:
    found = compared(proven)["python"]
    assert found["verdict"] in ("EQUIVALENT", "INCONCLUSIVE")
    assert found["flags"] == []
    assert found["churn"]["first_epoch"]["mean"] < 5


def test_a_wrong_gradient_is_exposed_whatever_its_accuracy(proven: Workspace) -> None:
    found = compared(proven)["wrong"]
    churned, apart = found["flags"]
    assert "predictions differ" in churned
    assert "loss at step 10" in apart
    page = (proven.folder / "results/report.html").read_text()
    assert "<strong>wrong</strong>: verification: fails as expected" in page
    assert "FLAGGED: after the first epoch" in page


def test_the_control_and_another_seed_are_what_it_is_judged_by(proven: Workspace) -> None:
    yards = proven.results()["yardsticks"]["torch"]
    assert yards["control"]["seeds"] == 3
    assert 0 < yards["control"]["divergence"]["200"] < 1e-3
    assert yards["control"]["churn"]["first_epoch"]["mean"] < 5
    assert yards["another_seed"]["first_epoch"]["mean"] > 50


def test_curves_of_all_runs(proven: Workspace) -> None:
    curves = pd.read_parquet(proven.folder / "results/curves.parquet")
    assert curves.groupby(["backend", "seed"], observed=True).size().tolist() == [600] * 12
    runs = proven.results()["backends"][0]["runs"]
    last = curves[(curves.backend == "torch") & (curves.step == 600)]
    assert last.accuracy.tolist() == [run["accuracy"][-1] for run in runs]


@needs_root
def test_the_report_of_snakemake_needs_no_network(proven: Workspace) -> None:
    done = subprocess.run(
        ["unshare", "-n", *proven.command("--report", "snakemake.html")],
        cwd=proven.folder,
        env=proven.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (proven.folder / "snakemake.html").read_text()
    for words in ("summary.csv", "loss.svg", "differences.svg", "the largest float32 error"):
        assert words in page
    assert re.search(r'"labels":\s*\{\s*"figure":\s*"loss"', page)
