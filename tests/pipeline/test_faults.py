"""Bad input, kills, a machine that does not do what it should: a clear end, nothing lost."""

import gzip
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from opproof import mnist
from tests.processes import processes_with

from .conftest import (
    Workspace,
    copy_of_mnist,
    flip_a_byte,
    in_namespace,
    needs_root,
    started,
    wait_for,
)


def test_every_fault_of_a_config_is_named_before_anything_runs(workspace: Workspace) -> None:
    workspace.configure(
        outptu="x",
        backends=["torch", "torhc", {"name": "../x; rm -rf ~", "op": "$(id)"}],
        seeds=[1, 1],
        train={"epochs": 0, "batch_size": "many", "learning_rate": "3e-3"},
        device="gpu",
    )
    run = workspace.snakemake()
    assert run.returncode != 0
    for key in (
        "outptu: unknown key",
        "backends[1]: is 'torhc'",
        "backends[2].name: is '../x; rm -rf ~'",
        "backends[2].op: is '$(id)'",
        "seeds: 1 is there twice",
        "train.epochs: is 0",
        "train.batch_size: is 'many'",
        "train.learning_rate: is '3e-3'",
        "device: is 'gpu'; allowed: auto, cpu, cuda",
    ):
        assert key in run.stdout
    assert "Traceback" not in run.stdout
    assert not (workspace.folder / "results").exists()


def test_a_source_that_is_not_there_is_named_before_anything_runs(workspace: Workspace) -> None:
    (workspace.folder / "there.cpp").touch()
    mine = {"name": "mine", "op": "mine::gelu", "sources": ["there.cpp", "absent.cu"]}
    workspace.configure(backends=["torch", mine])
    run = workspace.snakemake()
    assert run.returncode != 0
    assert "Missing input files for rule build" in run.stdout
    assert "absent.cu" in run.stdout
    assert "there.cpp" not in run.stdout
    assert "Traceback" not in run.stdout
    (workspace.folder / "absent.cu").touch()
    jobs = {"build": 1, "verify": 2, "train": 4, "summary": 1, "check": 1, "all": 1}
    assert workspace.planned() == jobs


def test_a_gpu_that_is_not_there_is_not_replaced_by_the_cpu(workspace: Workspace) -> None:
    workspace.configure(seeds=[0], backends=["torch"], device="cuda")
    run = workspace.snakemake(CUDA_VISIBLE_DEVICES="")
    assert run.returncode != 0
    assert "no GPU: device: cuda is set" in run.stdout
    assert "Traceback" not in run.stdout


def test_a_gpu_that_does_not_work_ends_its_job_and_nothing_is_tried_on_the_cpu(
    workspace: Workspace,
) -> None:
    workspace.configure(seeds=[0], backends=["torch"])
    run = workspace.snakemake(CUDA_VISIBLE_DEVICES="63")  # no machine has it
    assert run.returncode != 0
    assert (
        "no GPU: CUDA_VISIBLE_DEVICES=63 gives this job a GPU, but the driver says: " in run.stdout
    )
    assert "Traceback" not in run.stdout
    assert not (workspace.folder / "results/verify/torch.json").exists()
    assert not (workspace.folder / "results/state/bad-nodes").exists()  # that is for SLURM


def test_a_flipped_byte_in_the_data_stops_training(workspace: Workspace, tmp_path: Path) -> None:
    damaged = copy_of_mnist(workspace.mnist, tmp_path / "damaged")
    flip_a_byte(damaged / mnist.TRAIN_IMAGES.name)
    workspace.configure(seeds=[0], backends=["torch"], data={"folder": str(damaged)})
    run = workspace.snakemake()
    assert run.returncode != 0
    assert f"{damaged / mnist.TRAIN_IMAGES.name}: not the official file" in run.stdout


def test_a_source_with_a_flipped_byte_is_passed_over(workspace: Workspace, tmp_path: Path) -> None:
    damaged = copy_of_mnist(workspace.mnist, tmp_path / "damaged")
    flip_a_byte(damaged / mnist.TEST_IMAGES.name)
    kept = tmp_path / "kept"
    workspace.configure(data={"folder": str(kept), "sources": [str(damaged)]})
    run = workspace.snakemake("--until", "data")
    assert run.returncode != 0
    assert f"{mnist.TEST_IMAGES.name}: MD5 is not" in run.stdout
    sources = [str(damaged), str(workspace.mnist)]
    workspace.configure(data={"folder": str(kept), "sources": sources})
    assert workspace.snakemake("--until", "data").returncode == 0
    for file in mnist.FILES:
        mnist.read(kept, file)


def test_an_offline_mirror_of_packed_files_serves_the_data(
    workspace: Workspace, tmp_path: Path
) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for file in mnist.FILES:
        content = (workspace.mnist / file.name).read_bytes()
        (mirror / f"{file.name}.gz").write_bytes(gzip.compress(content, compresslevel=1))
    kept = tmp_path / "kept"
    workspace.configure(data={"folder": str(kept), "sources": [mirror.as_uri()]})
    run = workspace.snakemake("--until", "data")
    assert run.returncode == 0, run.stdout


@needs_root
@pytest.mark.parametrize(
    ("mount", "words"),
    [
        pytest.param("mount -t tmpfs -o size=8m tmpfs {}", "No space left", id="full disk"),
        pytest.param(
            "mount -t tmpfs tmpfs {0} && mount -o remount,ro {0}", "Read-only", id="read-only"
        ),
    ],
)
def test_a_folder_that_cannot_be_written_is_named(
    workspace: Workspace, tmp_path: Path, mount: str, words: str
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    kept = disk / "mnist"
    workspace.configure(data={"folder": str(kept), "sources": [str(workspace.mnist)]})
    run = in_namespace(workspace, mount.format(disk), "--until", "data")
    assert run.returncode != 0
    assert words in run.stdout
    assert str(kept) in run.stdout
    assert "Traceback" not in run.stdout


@needs_root
def test_an_output_folder_that_cannot_be_written_is_named(workspace: Workspace) -> None:
    results = workspace.folder / "results"
    results.mkdir()
    workspace.configure(seeds=[0], backends=["torch"])
    mount = f"mount -t tmpfs tmpfs {results} && mount -o remount,ro {results}"
    run = in_namespace(workspace, mount)
    assert run.returncode != 0
    assert "results" in run.stdout
    assert "Read-only file system" in run.stdout
    assert "Traceback" not in run.stdout


def test_a_killed_trainer_resumes_and_ends_with_the_same_numbers(workspace: Workspace) -> None:
    """The whole way: SIGKILL in the midst of training, and the run made again."""
    long = {"epochs": 6, "batch_size": 100}
    workspace.configure(seeds=[0], backends=["torch"], train=long)
    with started(workspace) as run:
        while "epoch 1/6" not in wait_for(workspace, "results/logs/train/torch/0.log").read_text():
            time.sleep(0.1)
        told = time.time()
        checkpoint = wait_for(workspace, "results/state/*/0/checkpoint.pt")
        while checkpoint.stat().st_mtime < told:
            time.sleep(0.1)
        for trainer in processes_with("opproof train", workspace.folder):
            os.kill(trainer, signal.SIGKILL)
        assert run.wait() != 0
        assert checkpoint.exists()
    assert workspace.snakemake().returncode == 0
    resumed = np.load(workspace.folder / "results/train/torch/0/seed-0.npz")
    assert "epoch 1/6" not in workspace.log("train/torch/0.log")
    shutil.rmtree(workspace.folder / "results/state")
    assert workspace.snakemake("--forcerun", "train").returncode == 0
    assert "epoch 1/6" in workspace.log("train/torch/0.log")
    undisturbed = np.load(workspace.folder / "results/train/torch/0/seed-0.npz")
    for name in ("loss", "accuracy", "predictions"):
        np.testing.assert_array_equal(resumed[name], undisturbed[name])


def test_a_killed_pipeline_does_not_block_the_next(workspace: Workspace) -> None:
    workspace.configure(seeds=[0, 1], backends=["torch"])
    with started(workspace) as run:
        wait_for(workspace, "results/logs/train/torch/0.log")
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    assert any((workspace.folder / ".snakemake/locks").iterdir())
    again = workspace.snakemake()
    assert again.returncode == 0, again.stdout
    assert "run that was killed" in again.stdout
    assert workspace.read("summary.json")["results"]["backends"][0]["seeds_ok"] == 2


def test_a_second_pipeline_is_told_who_holds_the_folder(workspace: Workspace) -> None:
    workspace.configure(seeds=[0, 1], backends=["torch"])
    with started(workspace) as first:
        wait_for(workspace, "results/logs/train/torch/0.log")
        second = workspace.snakemake()
        assert second.returncode != 0
        assert f"pid {first.pid} on host {os.uname().nodename}" in second.stdout
        assert first.wait() == 0
    assert workspace.read("summary.json")["results"]["backends"][0]["seeds_ok"] == 2
