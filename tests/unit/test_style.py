"""Style and types: the tools that check them have nothing to say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["ruff", "check"], id="ruff check"),
        pytest.param(["ruff", "format", "--check"], id="ruff format"),
        pytest.param(["mypy"], id="mypy"),
        pytest.param(["snakefmt", "--check", "Snakefile", "workflow/rules"], id="snakefmt"),
    ],
)
def test_clean(command: list[str]) -> None:
    run = run_tool(*command)
    assert run.returncode == 0, run.stdout + run.stderr


def test_snakemake_lint_misses_nothing_but_containers() -> None:
    """The pipeline runs in the active environment, by design; that is all that lint may say."""
    run = run_tool("snakemake", "--lint")
    lines = [line.strip() for line in (run.stdout + run.stderr).splitlines()]
    found = {line for line in lines if line.startswith("* ")}
    assert found == {"* Specify a conda environment or container for each rule.:"}, lines


def run_tool(*command: str) -> subprocess.CompletedProcess[str]:
    # The tools of the environment under test, wherever it is.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
