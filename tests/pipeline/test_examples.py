"""The examples, in a copy of their folder: all that needs no GPU is run, and passes."""

import os
import shutil
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest
import yaml

from .conftest import QUICK, REPOSITORY, SMALL
from .test_new import opproof

# What the Triton kernels compute in the interpreter: without a GPU they can't be verified.
INTERPRETED = """
import torch
from torch.nn import functional as F
import triton_gelu

x = 3 * torch.randn(7, 311)
for dtype, within in ((torch.float32, 1e-6), (torch.float64, 1e-15), (torch.float16, 2e-3)):
    x = x.to(dtype).requires_grad_()
    grad = torch.randn_like(x)
    (expected,) = torch.autograd.grad(F.gelu(x), x, grad)
    found = triton_gelu._launch(triton_gelu._forward, x.detach())
    slope = triton_gelu._launch(triton_gelu._backward, grad, x.detach())
    torch.testing.assert_close(found, F.gelu(x.detach()), rtol=within, atol=within)
    torch.testing.assert_close(slope, expected, rtol=within, atol=10 * within)
assert triton_gelu._launch(triton_gelu._forward, torch.empty(0, 3)).shape == (0, 3)
try:
    triton_gelu.gelu(x)
except ValueError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, mnist_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("copy") / "examples"
    shutil.copytree(REPOSITORY / "examples", folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    shorter = {**QUICK, "train": SMALL, "seeds": [0], "data": {"folder": str(mnist_folder)}}
    (folder / "short.yaml").write_text(yaml.safe_dump({**config, **shorter}))
    return folder


def test_every_example_passes_and_is_trained(folder: Path) -> None:
    run = opproof(folder, "opproof", "run", "--config", "short.yaml", "--cores", "2")
    assert run.returncode == 0, run.stdout
    assert "check passed: 8 backends" in (folder / "results/logs/check.log").read_text()


@pytest.mark.skipif(util.find_spec("triton") is None, reason="LOUD: no triton: NOT tested")
def test_the_triton_kernels_compute_gelu_as_interpreted(folder: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        cwd=folder,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "a Triton kernel is for a GPU, not for a tensor on cpu\n"
