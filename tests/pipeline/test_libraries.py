"""A user's own C++ beside the built-in libraries: one that is right, one that does not compile."""

from pathlib import Path

import pytest

from .conftest import Workspace, clone

FAIL = {"verify": "fail", "reason": "a control"}

MINE = """// GELU of torch's own, with its gradient beside it and no rules: those come from OpProof.
#include <ATen/ATen.h>
#include <torch/library.h>

using at::Tensor;

Tensor forward(const Tensor& x) { return at::gelu(x); }
Tensor backward(const Tensor& grad, const Tensor& x) { return at::gelu_backward(grad, x); }
Tensor double_backward(const Tensor& grad_grad, const Tensor& grad, const Tensor& x) {
  auto density = at::exp(x * x * -0.5) * 0.3989422804014327;
  return grad_grad * grad * density * (2 - x * x);
}

TORCH_LIBRARY(mine, library) {
  library.def("forward(Tensor x) -> Tensor");
  library.def("backward(Tensor grad, Tensor x) -> Tensor");
  library.def("double_backward(Tensor grad_grad, Tensor grad, Tensor x) -> Tensor");
}

TORCH_LIBRARY_IMPL(mine, CPU, library) {
  library.impl("forward", &forward);
  library.impl("backward", &backward);
  library.impl("double_backward", &double_backward);
}
"""
BROKEN = "// One line that is none.\nint broken() { return 1 }\n"
ENTRIES = [
    {"name": "mine", "op": "mine::forward", "sources": ["my sources/mine.cpp"]},
    {"name": "broken", "op": "broken::forward", "sources": ["my sources/broken.cpp"]},
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, mnist_folder: Path) -> Workspace:
    """A run, ended as it will; tests read it, and go on from it in this order."""
    workspace = clone(tmp_path_factory.mktemp("users"), mnist_folder)
    (workspace.folder / "my sources").mkdir()
    (workspace.folder / "my sources/mine.cpp").write_text(MINE)
    (workspace.folder / "my sources/broken.cpp").write_text(BROKEN)
    workspace.configure(seeds=[0], backends=["torch", "fused", "pooled", *ENTRIES])
    run = workspace.snakemake()
    (workspace.folder / "printed").write_text(run.stdout)
    (workspace.folder / "status").write_text(str(run.returncode))
    return workspace


def test_what_does_not_compile_is_refused_with_file_and_line(finished: Workspace) -> None:
    *_, broken = finished.read("summary.json")["results"]["backends"]
    (reason,) = broken["verification"]["reasons"]
    assert reason.startswith("usable: cannot be built: my sources/broken.cpp:2:24: error: ")
    assert (broken["verification"]["verdict"], broken["seeds_ok"]) == ("fail", 0)
    printed = (finished.folder / "printed").read_text()
    for text in (printed, (finished.folder / "results/summary.md").read_text()):
        assert "my sources/broken.cpp:2:24: error" in text
    assert "Traceback" not in printed


def test_it_is_nobody_elses_failure_and_ends_the_run_with_a_fault(finished: Workspace) -> None:
    *others, _ = finished.read("summary.json")["results"]["backends"]
    for backend in others:
        assert backend["verification"]["reasons"] == [], backend["name"]
        assert (backend["verification"]["verdict"], backend["seeds_ok"]) == ("pass", 1)
        assert backend["accuracy"]["mean"] > 80
    log = finished.log("check.log")
    faults = [line for line in log.splitlines() if line.startswith("check failed: ")]
    assert faults
    assert all(line.startswith("check failed: broken: ") for line in faults)
    assert (finished.folder / "status").read_text() != "0"


def test_the_next_run_compiles_what_was_mended_and_trains_that_alone(finished: Workspace) -> None:
    """Mended, it lacks a gradient: a finding again, now with what is to be done about it."""
    source = MINE.replace("mine", "broken")
    for name in ("double_backward", "backward"):
        source = source.replace(f'  library.impl("{name}", &{name});\n', "")
        source = "\n".join(line for line in source.split("\n") if f'def("{name}' not in line)
    (finished.folder / "my sources/broken.cpp").write_text(source)
    assert finished.planned() == {"build": 1, "verify": 1, "train": 1, **SUMMARY}
    run = finished.snakemake()
    assert run.returncode != 0
    assert "broken::forward: NotImplementedError: has no gradient; allowed: " in run.stdout
    (finished.folder / "my sources/broken.cpp").write_text(MINE.replace("mine", "broken"))
    run = finished.snakemake()
    assert run.returncode == 0, run.stdout
    assert "check passed: 5 backends" in finished.log("check.log")


def test_a_control_that_was_mended_fails_the_run(finished: Workspace) -> None:
    expecting = [ENTRIES[0], {**ENTRIES[1], "expect": FAIL}]
    finished.configure(seeds=[0], backends=["torch", "fused", "pooled", *expecting])
    assert finished.planned() == {"verify": 1, "train": 1, **SUMMARY}
    run = finished.snakemake()
    assert run.returncode != 0
    assert "broken: verification says pass, expected was fail" in run.stdout


SUMMARY = {"summary": 1, "check": 1, "all": 1}
