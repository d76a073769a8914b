"""Damaged files, and clocks that differ: the next run heals them, or says what is to be done."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from opproof import mnist

from .conftest import (
    UNDISTURBED,
    Workspace,
    copy_of_mnist,
    flip_a_byte,
    in_namespace,
    needs_root,
)

TWO_HOURS = 2 * 3600.0  # seconds


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("spoil", "named", "unnamed"),
    [
        pytest.param(
            cut_short,
            ["verify/torch.json", "train/torch/0/block.json", "summary.json"],
            ["state/*/0/run.npz", "tensorboard/torch/seed-0/content.sha256", "config/*.json"],
            id="cut short",
        ),
        pytest.param(
            flip_a_byte,
            ["train/torch/0/seed-0.npz", "summary.csv"],
            ["summary.md", "report.html", "state/*/0/run.json", "config/*.json"],
            id="a bit flipped",
        ),
    ],
)
def test_a_run_heals_what_is_damaged(
    finished_copy: Workspace,
    undisturbed: Workspace,
    spoil: Callable[[Path], None],
    named: list[str],
    unnamed: list[str],
) -> None:
    """Damaged silently, as by a disk: Snakemake sees nothing.

    The run names one file of each record that is to be made again, and none that its reader makes
    anew. Every other pair of a file and a damage: tests/unit/test_damage.py.
    """
    results = finished_copy.folder / "results"
    for pattern in (*named, *unnamed):
        paths = [*results.glob(pattern)]
        assert paths, pattern
        for path in paths:  # a state is there of the run, and of its control
            times = path.stat()
            spoil(path)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    run = finished_copy.snakemake()
    assert run.returncode == 0, run.stdout
    healed = [line for line in run.stdout.splitlines() if line.endswith("; it is made again")]
    assert [line.partition(": damaged: it ")[0] for line in healed] == [
        f"results/{name}" for name in named
    ]
    assert "seed 0: trained\n" in finished_copy.log("train/torch/0.log")
    assert finished_copy.results() == undisturbed.results()
    assert "nothing to be done" in finished_copy.snakemake().stdout.lower()


def test_a_damaged_library_is_compiled_again(workspace: Workspace) -> None:
    (workspace.folder / "mine.cpp").write_text("int one() { return 1; }\n")
    mine = {"name": "mine", "op": "mine::forward", "sources": ["mine.cpp"]}
    workspace.configure(backends=["torch", mine])
    folder = workspace.folder / "results/build/mine"
    assert workspace.snakemake("results/build/mine/build.json").returncode == 0
    before = (folder / "mine.so").read_bytes()
    flip_a_byte(folder / "mine.so")
    run = workspace.snakemake("results/build/mine/build.json")
    assert run.returncode == 0, run.stdout
    assert "results/build/mine/mine.so: damaged: " in run.stdout
    assert (folder / "mine.so").read_bytes() == before
    assert "build" not in workspace.planned()
    # As one that was edited while it was compiled: it is older than the library.
    (workspace.folder / "mine.cpp").write_text("int one() { return 2; }\n")
    os.utime(workspace.folder / "mine.cpp", (time.time() - TWO_HOURS,) * 2)
    assert "build" in workspace.planned()


def test_damaged_data_is_named_and_fetched_again_once_deleted(
    verified_copy: Workspace, tmp_path: Path
) -> None:
    data = copy_of_mnist(verified_copy.mnist, tmp_path / "data")
    images = data / mnist.TRAIN_IMAGES.name
    cut_short(images)
    sources = [str(verified_copy.mnist)]
    verified_copy.configure(**UNDISTURBED, data={"folder": str(data), "sources": sources})
    run = verified_copy.snakemake()
    assert run.returncode != 0
    assert f"{images}: not the official file: " in run.stdout
    assert "; delete it and run again" in run.stdout
    images.unlink()
    left = [left_by_a_killed_writer(path) for path in (images, verified_copy.folder / "results/x")]
    run = verified_copy.snakemake("--until", "data")
    assert run.returncode == 0, run.stdout
    mnist.read(data, mnist.TRAIN_IMAGES)
    assert not any(path.exists() for path in left), "temporary files of killed writers are removed"


def left_by_a_killed_writer(path: Path) -> Path:
    """Return the temporary file of a process that has ended."""
    code = "import sys; from pathlib import Path; from opproof import artifact\n"
    code += "left = artifact.temporary(Path(sys.argv[1])); left.touch(); print(left)"
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip())


def test_what_was_deleted_is_made_again(finished_copy: Workspace) -> None:
    """Whichever file it is, and although all that rests on it is there."""
    for name in ("verify/torch.json", "train/torch/0/block.json", "summary.md"):
        path = finished_copy.folder / "results" / name
        content = path.read_bytes()
        path.unlink()
        planned = finished_copy.planned()
        assert name.partition("/")[0].partition(".")[0] in planned, (name, planned)
        path.write_bytes(content)


def edited_tomorrow(workspace: Workspace) -> list[str]:
    """Edit inputs, on a machine whose clock is two hours ahead; return their names."""
    names = ["workflow/report/report.html.j2", "workflow/schemas/summary.schema.yaml"]
    for name in names:
        path = workspace.folder / name
        path.write_text(f"{path.read_text()}\n")
        os.utime(path, (time.time() + TWO_HOURS,) * 2)
    return names


def test_inputs_from_the_future_are_set_back(
    finished_copy: Workspace, undisturbed: Workspace
) -> None:
    names = edited_tomorrow(finished_copy)
    names.append("results/verify/torch.json")
    os.utime(finished_copy.folder / names[-1], (time.time() + TWO_HOURS,) * 2)
    shutil.rmtree(finished_copy.folder / "results/train")
    run = finished_copy.snakemake()
    assert run.returncode == 0, run.stdout
    for name in names:
        assert f"{name}: dated 1:59:" in run.stdout or f"{name}: dated 2:00:" in run.stdout
    assert finished_copy.results() == undisturbed.results()
    assert "nothing to be done" in finished_copy.snakemake().stdout.lower()


@needs_root
def test_inputs_from_the_future_that_cannot_be_set_back_are_named(
    finished_copy: Workspace, undisturbed: Workspace
) -> None:
    name, *_ = edited_tomorrow(finished_copy)
    folder = (finished_copy.folder / name).parent
    bind = f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}"
    run = in_namespace(finished_copy, bind)
    assert run.returncode != 0
    assert f"{name}: dated 1:59:" in run.stdout
    assert f"jobs that read it fail until then, or until: touch {name}" in run.stdout
    assert "Traceback" not in run.stdout
    (finished_copy.folder / name).touch()
    run = finished_copy.snakemake()
    assert run.returncode == 0, run.stdout
    assert finished_copy.results() == undisturbed.results()
