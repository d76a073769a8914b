"""An installed wheel, in a folder that holds nothing of the project."""

import json
import os
import signal
import subprocess
import sys
import time
import venv
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from opproof import config, settings

from .conftest import QUICK, REPOSITORY, SMALL


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this repository."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder]
    subprocess.run([*command, REPOSITORY], check=True)
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel, layered on this one's packages."""
    environment = tmp_path_factory.mktemp("wheel") / "env"
    venv.create(environment, symlinks=True)
    (layer,) = environment.glob("lib/python*/site-packages")
    # As paths alone: the .pth files below, of an editable opproof perhaps, are not read.
    below = [path for path in sys.path if path.endswith("site-packages")]
    (layer / "layer.pth").write_text("\n".join(below))
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True)
    # Of the requirements only ninja is called as a program; pip would leave it here.
    installed = {file.name: file.locate() for file in metadata.files("ninja") or ()}
    (environment / "bin" / "ninja").symlink_to(installed["ninja"])
    return environment / "bin"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """This process's environment, but on the PATH neither ninja nor nvcc nor a Python's folder."""
    programs = tmp_path_factory.mktemp("programs")
    for folder in map(Path, os.environ["PATH"].split(os.pathsep)):
        if not folder.is_dir() or (folder / "python").exists() or folder.name == "shims":
            continue
        for program in folder.iterdir():
            link = programs / program.name
            if program.name not in ("ninja", "nvcc") and not link.is_symlink():
                link.symlink_to(program)
    left_out = ("PYTHONPATH", "VIRTUAL_ENV", "CUDA_HOME", "CUDA_PATH")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "PATH": str(programs)}


def test_wheel_has_all_that_a_run_needs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for pattern in ("csrc/**/*", "workflow/rules/*", "workflow/schemas/*", "profiles/**/*"):
        files = [path for path in REPOSITORY.glob(pattern) if path.is_file()]
        assert files
        for file in files:
            if "__pycache__" not in file.parts:
                assert f"opproof/tree/{file.relative_to(REPOSITORY)}" in names
    assert {"opproof/tree/config.yaml", "opproof/tree/Snakefile"} <= names
    assert not [name for name in names if "__pycache__" in name]


def test_run_from_the_wheel(
    scripts: Path, environment: dict[str, str], tmp_path: Path, mnist_folder: Path
) -> None:
    chosen = {**QUICK, "build": {"cuda": "auto"}, "seeds": [0], "train": SMALL}
    chosen |= {"backends": ["fused"], "data": {"folder": str(mnist_folder)}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(chosen))
    run = opproof(scripts, environment, tmp_path, "run", "--cores", "2")
    assert run.returncode == 0, run.stdout
    (backend,) = json.loads((tmp_path / "results/summary.json").read_text())["results"]["backends"]
    assert (backend["verification"]["verdict"], backend["seeds_ok"]) == ("pass", 1)
    assert (tmp_path / "results/report.html").exists()
    record = json.loads((tmp_path / "results/build/gelu/build.json").read_text())
    # An nvcc in CUDA's own folder is found without a PATH.
    assert record["cuda"]["built"] == Path("/usr/local/cuda/bin/nvcc").exists()
    again = opproof(scripts, environment, tmp_path, "run", "--cores", "2")
    assert "nothing to be done" in again.stdout.lower(), again.stdout


def test_without_a_config_the_wheels_own_is_run(
    scripts: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    with (tmp_path / "printed").open("w") as printed:
        process = subprocess.Popen(
            [scripts / "opproof", "run", "--cores", "1"],
            cwd=tmp_path,
            env=environment,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        frozen = next(frozen_files(process, tmp_path / "results" / "config"))
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
    printed_text = (tmp_path / "printed").read_text()
    tree = next(scripts.parent.glob("lib/python*/site-packages")) / "opproof" / "tree"
    assert f"no config.yaml in this folder: settings of {tree}/config.yaml" in printed_text
    assert settings.read(frozen) == config.resolve({})


def frozen_files(process: subprocess.Popen[bytes], folder: Path) -> Iterator[Path]:
    """Yield what a run that has begun works by; nothing if it has ended without."""
    while process.poll() is None:
        yield from folder.glob("*.json")
        time.sleep(0.05)


def opproof(
    scripts: Path, environment: dict[str, str], folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [scripts / "opproof", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
