"""Files that are not Python: found in the repository, and in a wheel that was built from it."""

import ast
import email.parser
import json
import os
import re
import subprocess
import sys
import zipfile
from email.message import Message
from importlib import util
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from opproof import __version__, paths

REPOSITORY = Path(__file__).resolve().parents[2]

CARRIED = ("Snakefile", "config.yaml", "csrc", "profiles", "slurm", "workflow/rules")
CARRIED += ("workflow/schemas", "workflow/report", "workflow/starters")
PACKAGES = ("opproof", "snakemake_logger_plugin_opproof")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel of this repository holds."""
    if util.find_spec("hatchling") is None:
        pytest.skip("NOT TESTED: the wheel; needs hatchling: pip install hatchling")
    built, unpacked = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("unpacked")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--no-index", "--wheel-dir", built, REPOSITORY], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = built.iterdir()
    assert file.name == f"opproof-{__version__}-py3-none-any.whl"
    zipfile.ZipFile(file).extractall(unpacked)
    return unpacked


@pytest.fixture
def metadata(wheel: Path) -> Message:
    text = (wheel / f"opproof-{__version__}.dist-info" / "METADATA").read_text()
    return email.parser.Parser().parsestr(text)


def contents(root: Path, *names: str) -> dict[str, bytes]:
    """Return the files below these folders of `root`, without what Python leaves there."""
    found = [file for name in names for file in (root / name, *(root / name).rglob("*"))]
    return {
        str(file.relative_to(root)): file.read_bytes()
        for file in found
        if file.is_file() and "__pycache__" not in file.parts
    }


def python(wheel: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with the wheel's modules before those of the repository."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(wheel), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_paths_in_the_repository() -> None:
    assert paths.TREE == REPOSITORY
    assert paths.SNAKEFILE.is_file()
    assert list(paths.CSRC.glob("*.cpp"))
    assert (paths.SCHEMAS / "config.schema.yaml").is_file()
    assert (paths.TEMPLATES / "report.html.j2").is_file()


def test_wheel_carries_the_tree_and_the_packages_and_nothing_else(wheel: Path) -> None:
    assert contents(wheel / "opproof" / "tree", ".") == contents(REPOSITORY, *CARRIED)
    modules = {
        name: text for name, text in contents(wheel, *PACKAGES).items() if "/tree/" not in name
    }
    assert modules == contents(REPOSITORY / "workflow", *PACKAGES)
    folders = {*PACKAGES, f"opproof-{__version__}.dist-info"}
    assert {path.name for path in wheel.iterdir()} == folders
    assert not list(wheel.rglob("__pycache__"))


def test_wheel_finds_its_own_tree(wheel: Path, tmp_path: Path) -> None:
    code = """
import json
from opproof import config, paths
names = ["TREE", "SNAKEFILE", "CSRC", "SCHEMAS", "TEMPLATES"]
print(json.dumps({name: str(getattr(paths, name)) for name in names}))
assert config.load(paths.TREE / "config.yaml") == config.resolve({})
"""
    done = python(wheel, tmp_path, "-c", code)
    assert done.stderr == ""
    tree = wheel / "opproof" / "tree"
    assert json.loads(done.stdout) == {
        "TREE": str(tree),
        "SNAKEFILE": str(tree / "Snakefile"),
        "CSRC": str(tree / "csrc"),
        "SCHEMAS": str(tree / "workflow" / "schemas"),
        "TEMPLATES": str(tree / "workflow" / "report"),
    }


def test_wheel_plans_the_pipeline_in_a_folder_of_the_users(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("backends: [torch, cpp]\n")
    snakefile = str(wheel / "opproof" / "tree" / "Snakefile")
    done = python(wheel, tmp_path, "-m", "snakemake", "-n", "-q", "rules", "-s", snakefile)
    assert done.returncode == 0, done.stderr
    table = done.stdout.partition("Job stats:")[2].partition("total")[0]
    planned = {row.split()[0]: int(row.split()[1]) for row in table.splitlines()[3:] if row}
    jobs = {"data": 1, "build": 1, "verify": 2, "train": 4, "timing_operators": 1}
    jobs |= {"timing_training": 1, "summary": 1, "check": 1, "all": 1}
    assert planned == jobs


def test_wheel_describes_itself(wheel: Path, metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("opproof", __version__)
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (REPOSITORY / "README.md").read_text()
    licence = wheel / f"opproof-{__version__}.dist-info" / "licenses" / "LICENSE"
    assert licence.read_bytes() == (REPOSITORY / "LICENSE").read_bytes()


def test_wheel_requires_what_its_modules_import(wheel: Path, metadata: Message) -> None:
    required = {
        re.split(r"[^\w.-]", line)[0].lower()
        for line in metadata.get_all("Requires-Dist", [])
        if "extra ==" not in line
    }
    distributions = packages_distributions()
    for file in (file for file in wheel.rglob("*.py") if file.parent.name != "starters"):
        for module in imported(file) - sys.stdlib_module_names - set(PACKAGES):
            names = {name.lower() for name in distributions[module]}
            assert names & required, f"{file}: {module}"


def test_wheel_brings_the_command(wheel: Path, tmp_path: Path) -> None:
    points = (wheel / f"opproof-{__version__}.dist-info" / "entry_points.txt").read_text()
    assert points.split() == ["[console_scripts]", "opproof", "=", "opproof.__main__:main"]
    done = python(wheel, tmp_path, "-m", "opproof", "--version")
    assert (done.returncode, done.stdout) == (0, f"opproof {__version__}\n")


def imported(file: Path) -> set[str]:
    """Return the first parts of the names of the modules that a file imports."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}
