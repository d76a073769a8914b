"""The examples on a GPU: Triton's GELU passes verification, headers give the CPU's bits."""

import shutil
from pathlib import Path

import pytest
import torch

from opproof import build, config, library, verify

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
REFERENCES = {
    "silu": "torch.nn.functional:silu",
    "mish": "torch.nn.functional:mish",
    "relu_squared": "references:relu_squared",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the examples, which is the working folder."""
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    monkeypatch.chdir(tmp_path / "examples")
    return tmp_path / "examples"


@pytest.mark.usefixtures("folder")
def test_triton_gelu_passes_verification() -> None:
    pytest.importorskip("triton", reason="LOUD: no triton: NOT tested")
    entry = {"name": "triton", "op": "triton_gelu:gelu"}
    settings = config.resolve({"backends": [entry], "device": "cuda"})
    assert verify.verify(settings, settings.backends[0])["reasons"] == []


@pytest.mark.parametrize("name", REFERENCES)
def test_a_header_passes_verification_and_gives_the_cpus_bits(name: str, folder: Path) -> None:
    entry = {"name": name, "header": f"{name}.h", "reference": REFERENCES[name]}
    settings = config.resolve({"backends": [entry], "device": "cuda", "timing": False})
    build.build(settings.libraries[0], settings.build, Path(settings.output))
    assert verify.verify(settings, settings.backends[0])["reasons"] == []
    library.load(Path(settings.output), name)
    operators = getattr(torch.ops, f"opproof_{name}")
    patterns = torch.arange(-(2**31), 2**31, 1009, dtype=torch.int64).to(torch.int32)
    x = patterns.view(torch.float32)
    grad = torch.ones_like(x)
    for found, expected in (
        (operators.forward(x.cuda()), operators.forward(x)),
        (operators.backward(grad.cuda(), x.cuda()), operators.backward(grad, x)),
    ):
        same = found.cpu().view(torch.int32) == expected.view(torch.int32)
        assert bool((same | (found.cpu().isnan() & expected.isnan())).all())
