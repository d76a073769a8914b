"""The README is true: its graph, its targets, its keys and its paths."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from opproof import config

from .conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()


def test_rule_graph_is_the_pipelines() -> None:
    drawn = set(re.findall(r"^    (\w+) --> (\w+)$", README, re.MULTILINE))
    run = subprocess.run(
        [sys.executable, "-m", "snakemake", "--rulegraph", "mermaid-js"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    names = dict(re.findall(r"(id\d+)\[(\w+)\]", run.stdout))
    edges = re.findall(r"(id\d+) --> (id\d+)", run.stdout)
    found = {(names[start], names[end]) for start, end in edges}
    # That `all` asks for every file by itself would clutter the picture.
    assert drawn == {edge for edge in found if edge[1] != "all"} | {("check", "all")}


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?<!\w)make ([a-z-]+)", README))))
def test_make_knows_the_target(target: str) -> None:
    assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)


def test_table_of_keys_has_every_key() -> None:
    table = README.partition("## Configuration")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row)} == set(
        config.schema()["properties"]
    )


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_link_leads_somewhere(path: str) -> None:
    assert (REPOSITORY / path).exists()


@pytest.mark.parametrize(
    "path",
    sorted(set(re.findall(r"`((?:\w+/)+[\w.]*)`", README)) - {"results/", "resources/mnist"}),
)
def test_path_is_there(path: str) -> None:
    if not path.startswith("results/"):
        places = (REPOSITORY, REPOSITORY / "tests", REPOSITORY / "csrc", Path.cwd())
        assert any((place / path).exists() for place in places), path
