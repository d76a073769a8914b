"""Style and types: what .pre-commit-config.yaml lists has nothing to say."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
(LOCAL,) = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]


@pytest.mark.parametrize("hook", [pytest.param(hook, id=hook["name"]) for hook in LOCAL["hooks"]])
def test_clean(hook: dict[str, Any]) -> None:
    # The tools of the environment under test, wherever it is.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        shlex.split(hook["entry"]),
        cwd=REPOSITORY,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_hooks_fetch_nothing_and_see_every_file() -> None:
    assert LOCAL["repo"] == "local"
    for hook in LOCAL["hooks"]:
        assert (hook["language"], hook["pass_filenames"]) == ("system", False)
