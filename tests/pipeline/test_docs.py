"""The README and docs/ are true: graph, targets, keys, paths, links, commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from opproof import config
from tests import docs

from .conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
PAGES = {
    str(path.relative_to(REPOSITORY)): path.read_text()
    for path in sorted(
        [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("*/README.md")]
    )
    if path.name != "CHANGELOG.md"
}


@pytest.mark.parametrize("page", ["README.md", "docs/design.md"])
def test_rule_graph_is_the_pipelines(page: str) -> None:
    drawn = set(re.findall(r"^    (\w+) --> (\w+)$", PAGES[page], re.MULTILINE))
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


TARGETS = sorted(
    {target for text in PAGES.values() for target in re.findall(r"`make ([a-z-]+)", text)}
)


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_the_target(target: str) -> None:
    assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)


def test_table_of_keys_has_every_key() -> None:
    table = README.partition("## Configuration")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row)} == set(
        config.schema()["properties"]
    )


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGES[page])
    folder = (REPOSITORY / page).parent
    assert [link for link in links if not (folder / link).exists()] == []


def test_the_page_of_keys_is_the_schemas() -> None:
    assert docs.CONFIGURATION.read_text() == docs.configuration(), "run: make docs"


# Where each command of the pages is run: a test's file, and what is to be found there.
RUN_BY = {
    r"make run( .*)?": ("pipeline/test_make.py", '"run"'),
    r"make (test|quick)": ("pipeline/test_make.py", '"quick"'),
    r"make lint": ("unit/test_style.py", "test_clean"),
    r"make docs": ("pipeline/test_docs.py", "docs.configuration()"),
    r"make cluster": ("cluster/conftest.py", "Cluster("),
    r"\. \.venv/bin/activate": ("pipeline/test_make.py", "bin"),
    r"pip install --editable \.( .*)?": ("../Makefile", "--editable"),
    r"pip install --editable '\.\[slurm\]'": ("cluster/__main__.py", "slurm"),
    r"make gpu-check": ("gpu/__main__.py", "gpu-check"),
    r"snakemake -c1 -n": ("pipeline/conftest.py", '"--dry-run"'),
    r"snakemake -c2": ("pipeline/conftest.py", '"-c2"'),
    r"snakemake --profile slurm": ("cluster/conftest.py", '"--profile", "slurm"'),
    r"sbatch slurm/\w+\.sbatch": ("cluster/test_controller.py", ".sbatch"),
    r"python -m opproof build": ("unit/test_build.py", '"build"'),
    r"python -m opproof verify --backend \w+": ("pipeline/test_new.py", '"verify", "--backend"'),
    r"python -m opproof new \w+( --way \w+)?": ("pipeline/test_new.py", '"new", name, "--way"'),
    r"python -m opproof run( .*)?": ("pipeline/test_new.py", '"opproof", "run"'),
    r"python -m opproof doctor": ("cluster/test_doctor.py", "opproof doctor"),
    r"python -m pytest test_\w+\.py": ("pipeline/test_new.py", '"pytest"'),
    r"cp -r examples .*": ("pipeline/test_examples.py", "copytree"),
    r"cd \S+": ("pipeline/test_new.py", "cwd=folder"),
    r"python -m build": ("pipeline/test_wheel.py", '"build"'),
    r"pre-commit install": ("unit/test_style.py", ".pre-commit-config.yaml"),
    r"\$EDITOR .*": ("cluster/conftest.py", "config"),
}


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_run_by_a_test(page: str) -> None:
    for command in commands(PAGES[page]):
        places = [place for form, place in RUN_BY.items() if re.fullmatch(form, command)]
        assert places, f"{command}: is run by no test"
        for file, text in places:
            there = text in (REPOSITORY / "tests" / file).read_text()
            assert there, f"{command}: not in {file}"


def commands(page: str) -> list[str]:
    """Return the lines of a page's indented blocks, and of those fenced as a shell's."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    blocks = [text for language, text in fenced if language in ("", "sh", "bash")]
    rest = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    blocks += re.findall(r"(?<=\n\n)(?:    \S.*\n)+", rest)
    lines = (line.partition("  #")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line]


@pytest.mark.parametrize(
    "path",
    sorted(set(re.findall(r"`((?:\w+/)+[\w.]*)`", README)) - {"results/", "resources/mnist"}),
)
def test_path_is_there(path: str) -> None:
    if not path.startswith("results/"):
        places = (REPOSITORY, REPOSITORY / "tests", REPOSITORY / "csrc", Path.cwd())
        assert any((place / path).exists() for place in places), path
