"""What a run leaves to others, and what a site's profile may say beside it."""

import re
import subprocess
from pathlib import Path

import pytest

from .conftest import Workspace


@pytest.mark.parametrize(("umask", "denied"), [(0, 0o027), (0o022, 0o027), (0o077, 0o077)], ids=oct)
def test_what_a_run_makes_is_not_for_others(
    workspace: Workspace, tmp_path: Path, umask: int, denied: int
) -> None:
    kept = tmp_path / "kept"
    workspace.configure(data={"folder": str(kept), "sources": [str(workspace.mnist)]})
    before = {*tmp_path.rglob("*")}
    run = subprocess.run(
        workspace.command("--until", "data"),
        cwd=workspace.folder,
        env=workspace.environment(),
        capture_output=True,
        text=True,
        umask=umask,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    snakemakes = workspace.folder / ".snakemake"
    assert snakemakes.stat().st_mode & 0o077 == 0
    made = {*tmp_path.rglob("*")} - before
    made -= {path for path in made if path.is_relative_to(snakemakes) or "__pycache__" in str(path)}
    assert {kept, workspace.folder / "results/logs/data.log"} <= made
    assert not [path for path in made if path.stat().st_mode & denied]


def test_a_secret_in_the_configuration_ends_the_run_and_is_not_shown(workspace: Workspace) -> None:
    workspace.configure(data={"sources": ["https://me:SECRET@example.org/mnist"]})
    run = workspace.snakemake()
    assert run.returncode != 0
    assert "data.sources[0]: 'https://***@example.org/mnist' holds a secret" in run.stdout
    assert "SECRET" not in run.stdout
    assert not (workspace.folder / "results").exists()


NODES = "--exclude=n1,n2"
MAIL = "--mail-type=FAIL"
DEFAULT = ["--default-resources", f"slurm_extra='{MAIL}'"]
OWN = ["train:slurm_extra='--nice=' + str(attempt)", "timing_operators:slurm_extra=''"]


@pytest.mark.parametrize(
    ("options", "nodes", "verify", "train", "timing"),
    [
        ([], [], None, None, None),
        ([], ["n2", "n1"], NODES, NODES, NODES),
        (DEFAULT, [], MAIL, MAIL, MAIL),
        (DEFAULT, ["n1", "n2"], f"{MAIL} {NODES}", f"{MAIL} {NODES}", f"{MAIL} {NODES}"),
        (["--set-resources", *OWN], [], None, "--nice=1", None),
        (["--set-resources", *OWN], ["n1", "n2"], NODES, f"--nice=1 {NODES}", NODES),
    ],
    ids=["none", "nodes", "default", "default and nodes", "set", "set and nodes"],
)
def test_bad_nodes_are_excluded_beside_what_the_site_asks_of_sbatch(
    workspace: Workspace,
    options: list[str],
    nodes: list[str],
    verify: str | None,
    train: str | None,
    timing: str | None,
) -> None:
    workspace.configure(seeds=[0], backends=["torch"], timing=True)
    folder = workspace.folder / "results/state/bad-nodes"
    folder.mkdir(parents=True)
    for name in nodes:
        (folder / name).touch()
    run = workspace.snakemake("--dry-run", *options)
    assert run.returncode == 0, run.stdout
    jobs = dict(re.findall(r"^rule (\w+):\n((?: .*\n)+)", run.stdout, re.MULTILINE))
    expected = {"verify": verify, "train": train, "timing_operators": timing}
    for rule, extra in expected.items():
        found = re.search(r", slurm_extra=(.*?)(?:, \w+=|\n)", jobs[rule])
        assert (found and found[1]) == extra, rule
