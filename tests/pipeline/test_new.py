"""A user's own activation, by each way, in a folder that has nothing of the project."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import QUICK, REPOSITORY, SMALL

WAYS = ("header", "sources", "op")

# Of each way an operator that is wrong, or none: what is edited in its starter, what the entry says
# instead, and what the refusal must say.
WRONG: dict[str, tuple[str, Callable[[str], str], dict[str, Any], str]] = {
    "off_in_value": (
        "header",
        lambda text: text.replace("return x * sigmoid(x);", "return x * sigmoid(x) * T(1.001);"),
        {},
        r"forward float32: the largest absolute error is 0\.012, above ",
    ),
    "without_derivative": (
        "header",
        lambda text: text.replace("T derivative(", "T slope("),
        {},
        r"usable: cannot be built: without_derivative\.h:12:\d+: error: static assertion failed: "
        r"Activation has no static float derivative\(float\)$",
    ),
    "without_struct": (
        "header",
        lambda text: text.replace("struct Activation", "struct Actuation"),
        {},
        r"usable: cannot be built: without_struct\.h:1:\d+: error: .*defines no struct Activation$",
    ),
    "misspelt": (
        "header",
        lambda text: text.replace("return x * sigmoid(x);", "return x * sigmund(x);"),
        {},
        r"usable: cannot be built: misspelt\.h:15:\d+: error: .sigmund. was not declared",
    ),
    "off_in_gradient": (
        "sources",
        lambda text: text.replace("grad * (s + x * s * at::sigmoid(-x))", "grad * s"),
        {},
        r"backward float32: the largest absolute error is 0\.22",
    ),
    "without_semicolon": (
        "sources",
        lambda text: text.replace(
            "at::Tensor s = at::sigmoid(x);", "at::Tensor s = at::sigmoid(x)"
        ),
        {},
        r"usable: cannot be built: without_semicolon\.cpp:\d+:\d+: error: ",
    ),
    "without_symbol": (
        "sources",
        lambda text: text.replace("namespace {", "at::Tensor nowhere();\nnamespace {").replace(
            "{ return x * at::sigmoid(x); }", "{ return nowhere(); }"
        ),
        {},
        r"usable: cannot be built: .*without_symbol\.cpp.*undefined reference to `nowhere\(\)'",
    ),
    "without_operator": (
        "sources",
        lambda text: text,
        {"op": "without_operator::forwards"},
        r"usable: op without_operator::forwards: AttributeError: ",
    ),
    "of_two_tensors": (
        "sources",
        lambda text: text.replace(
            "forward(const at::Tensor& x)", "forward(const at::Tensor& x, const at::Tensor& y)"
        ).replace("forward(Tensor x)", "forward(Tensor x, Tensor y)"),
        {},
        r"usable: RuntimeError: of_two_tensors::forward\(\) is missing value for argument 'y'",
    ),
    "not_silu": (
        "op",
        lambda text: text.replace("return Function.apply(x)", "return torch.relu(x)"),
        {},
        r"forward float32: the largest absolute error is 0\.278, above ",
    ),
    "without_function": (
        "op",
        lambda text: text.replace("def without_function(", "def with_function("),
        {},
        r"usable: op without_function_op:without_function: AttributeError: module",
    ),
    "of_two_arguments": (
        "op",
        lambda text: text.replace(
            '(x: Tensor) -> Tensor:\n    """', '(x: Tensor, y: int) -> Tensor:\n    """'
        ),
        {},
        r"usable: TypeError: of_two_arguments\(\) missing 1 required positional argument: 'y'$",
    ),
    "without_reference": (
        "op",
        lambda text: text,
        {"reference": "without_reference_reference:missing"},
        r"usable: reference without_reference_reference:missing: AttributeError: ",
    ),
}


def opproof(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the program in the folder; its stdout has all that it printed."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, mnist_folder: Path) -> Path:
    """The user's folder, after `opproof new` for all, and a run; "printed" is what that said."""
    folder = tmp_path_factory.mktemp("users")
    entries = [entry for way in WAYS for entry in started(folder, f"own_{way}", way)]
    for name, (way, edit, instead, _) in WRONG.items():
        *_, entry = started(folder, name, way)
        file = (
            folder / {"header": f"{name}.h", "sources": f"{name}.cpp", "op": f"{name}_op.py"}[way]
        )
        text = file.read_text()
        assert edit(text) != text or instead, name
        file.write_text(edit(text))
        entries.append({**entry, **instead})
    entries.insert(0, "torch")
    data = {"folder": str(mnist_folder)}
    config = {**QUICK, "train": SMALL, "data": data, "seeds": [0, 1], "backends": entries}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    run = opproof(folder, "opproof", "run", "--cores", "2")
    (folder / "printed").write_text(f"{run.returncode}\n{run.stdout}")
    return folder


def started(folder: Path, name: str, way: str) -> list[Any]:
    """Return the entries that `opproof new` has written into config.yaml, or says to add."""
    run = opproof(folder, "opproof", "new", name, "--way", way)
    assert run.returncode == 0, run.stdout
    config = folder / "config.yaml"
    if f"wrote {config.name}" in run.stdout:
        return yaml.safe_load(config.read_text())["backends"]
    return yaml.safe_load(run.stdout.partition("config.yaml:\n")[2].partition("then:")[0])


@pytest.fixture(scope="module")
def backends(folder: Path) -> dict[str, dict[str, Any]]:
    summaries = [*folder.glob("results/**/summary.json")]
    assert summaries, (folder / "printed").read_text()
    results = json.loads(summaries[0].read_text())["results"]
    return {backend["name"]: backend for backend in results["backends"]}


@pytest.mark.parametrize("way", WAYS)
def test_an_own_activation_is_in_the_summary_with_a_verdict(
    folder: Path, backends: dict[str, dict[str, Any]], way: str
) -> None:
    found = backends[f"own_{way}"]
    assert found["verification"]["reasons"] == []
    assert (found["verification"]["verdict"], found["seeds_ok"]) == ("pass", 2)
    assert found["accuracy"]["mean"] > 80
    summary = next(folder.glob("results/**/summary.md"))
    assert re.search(rf"^\| own_{way} \| pass \|", summary.read_text(), re.MULTILINE)


def test_each_family_has_its_own_reference_and_baseline(
    backends: dict[str, dict[str, Any]],
) -> None:
    assert backends["torch"]["baseline"] == "torch"
    assert backends["torch"]["reference"] == "F.gelu"
    own = backends["own_header"]
    assert own["reference"] == "own_header_reference.own_header"
    assert own["baseline"] == own["comparison"]["baseline"] == "own_header_torch"
    assert own["comparison"]["seeds"] == 2
    assert own["comparison"]["flags"] == []
    assert backends["own_op"]["comparison"] is None  # of a family of its own


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_one_is_refused_with_the_right_words(
    folder: Path, backends: dict[str, dict[str, Any]], name: str
) -> None:
    found = backends[name]
    assert (found["verification"]["verdict"], found["seeds_ok"]) == ("fail", 0)
    assert re.match(WRONG[name][3], found["verification"]["reasons"][0]), found["verification"]
    assert f"check failed: {name}: " in (folder / "results/logs/check.log").read_text()


def test_the_run_fails_without_a_traceback(folder: Path) -> None:
    printed = (folder / "printed").read_text()
    assert not printed.startswith("0\n")
    assert "Traceback" not in printed


def test_the_tests_that_come_with_the_starters_pass(folder: Path) -> None:
    tests = [f"test_own_{way}.py" for way in WAYS]
    run = opproof(folder, "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert run.returncode == 0, run.stdout
    assert "6 passed" in run.stdout


def test_verification_by_hand_builds_what_was_edited(folder: Path, tmp_path: Path) -> None:
    """Without Snakemake, and the verdict is all that stands in stdout's first line."""
    for file in ("own_header.h", "own_header_reference.py"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    entry = {"name": "own_header", "header": "own_header.h"}
    entry["reference"] = "own_header_reference:own_header"
    config = {**QUICK, "backends": [entry]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command = ["opproof", "verify", "--backend", "own_header"]
    assert "own_header: pass" in opproof(tmp_path, *command).stdout.splitlines()
    edited = (tmp_path / "own_header.h").read_text().replace("x * sigmoid(x)", "x + sigmoid(x)")
    (tmp_path / "own_header.h").write_text(edited)
    assert "own_header: fail" in opproof(tmp_path, *command).stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["own_op"], "own_op_reference.py, test_own_op.py: there already; nothing was written"),
        (["fused"], "'fused': is built in; allowed: another name"),
        (["of-mine"], "'of-mine': no name for an operator; allowed: letters, digits and _"),
        (["lambda"], "'lambda': no name for an operator; allowed: letters, digits and _"),
    ],
)
def test_a_name_that_can_not_be_is_refused(folder: Path, words: list[str], message: str) -> None:
    before = sorted(folder.iterdir())
    run = opproof(folder, "opproof", "new", *words)
    assert (run.returncode, run.stdout) == (2, f"opproof new: {message}\n")
    assert sorted(folder.iterdir()) == before
