"""Where a job computes, on machines without a GPU."""

import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest
import torch

from opproof import __main__, artifact, config, device
from opproof.errors import UserError

PROMISES = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "CUDA_VISIBLE_DEVICES")
CPU = torch.device("cpu")

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


@pytest.fixture(autouse=True)
def no_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROMISES:
        monkeypatch.delenv(name, raising=False)


def driver(gpus: int) -> SimpleNamespace:
    """Return a pynvml of a machine with so many GPUs, which torch does not see."""
    return SimpleNamespace(
        NVMLError=pynvml.NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: gpus,
        nvmlShutdown=lambda: None,
    )


NOTHING = [
    {},
    {"CUDA_VISIBLE_DEVICES": ""},
    {"CUDA_VISIBLE_DEVICES": "-1"},
    {"CUDA_VISIBLE_DEVICES": "NoDevFiles"},  # SLURM's word for none
    {"SLURM_JOB_GPUS": ""},
]


@no_gpu
@pytest.mark.parametrize("environment", NOTHING, ids=str)
def test_auto_without_a_gpu_is_the_cpu(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    set_all(monkeypatch, environment)
    assert device.resolve("auto") == CPU


@pytest.mark.parametrize("name", PROMISES)
def test_cpu_is_the_cpu_whatever_is_promised(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "0")
    assert device.resolve("cpu") == CPU


REFUSED = [
    ("cuda", {}, "device: cuda is set"),
    ("cuda", {"CUDA_VISIBLE_DEVICES": "-1"}, "device: cuda is set"),
    ("auto", {"SLURM_JOB_GPUS": "2,3"}, "SLURM_JOB_GPUS=2,3 gives this job a GPU"),
    ("auto", {"SLURM_STEP_GPUS": "0"}, "SLURM_STEP_GPUS=0 gives this job a GPU"),
    ("auto", {"CUDA_VISIBLE_DEVICES": "0"}, "CUDA_VISIBLE_DEVICES=0 gives this job a GPU"),
    (
        "auto",
        {"CUDA_VISIBLE_DEVICES": "GPU-8f0c5a6e"},
        "CUDA_VISIBLE_DEVICES=GPU-8f0c5a6e gives this job a GPU",
    ),
    ("auto", {"SLURM_JOB_GPUS": "0", "CUDA_VISIBLE_DEVICES": ""}, "SLURM_JOB_GPUS=0 gives this"),
]


@no_gpu
@pytest.mark.parametrize(
    ("wanted", "environment", "promise"), REFUSED, ids=[f"{w} {e}" for w, e, _ in REFUSED]
)
def test_a_promised_gpu_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, wanted: str, environment: dict[str, str], promise: str
) -> None:
    set_all(monkeypatch, environment)
    with pytest.raises(UserError) as raised:
        device.resolve(wanted)
    message = str(raised.value)
    assert message.startswith(f"no GPU: {promise}")
    assert f"torch {torch.__version__} (CUDA {torch.version.cuda}) sees none" in message
    assert f"on {socket.gethostname()} " in message
    visible = environment.get("CUDA_VISIBLE_DEVICES", "not set")
    assert f"(CUDA_VISIBLE_DEVICES: {visible})" in message
    assert message.endswith("to train on a CPU, set device: cpu")


@no_gpu
@pytest.mark.parametrize("stage", ["verify", "train"])
def test_a_job_says_so_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = config.resolve({"backends": ["torch"], "device": "cuda"})
    settings.freeze()
    artifact.write_json(
        Path("results/verify/torch.json"), {"verdict": "pass", "expected": "pass", "reasons": []}
    )
    frozen = str(settings.frozen_path)
    assert __main__.main([stage, "--config", frozen, "--backend", "torch"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"opproof {stage}: no GPU: device: cuda is set")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not Path("results/train").exists()


@no_gpu
def test_a_gpu_that_only_the_driver_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # Faked: a driver with a GPU beside a torch that can't use it.
    monkeypatch.setitem(sys.modules, "pynvml", driver(1))
    with pytest.raises(UserError, match="no GPU: this machine has a GPU, but torch"):
        device.resolve("auto")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # hidden on purpose
    assert device.resolve("auto") == CPU


@no_gpu
@pytest.mark.parametrize("module", [driver(0), None], ids=["no GPU", "no pynvml"])
def test_without_a_gpu_in_the_driver(monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert device.resolve("auto") == CPU


def test_tf32_on_a_cpu_is_refused(arithmetic: None) -> None:
    with pytest.raises(UserError, match="precision: tf32 needs a GPU"):
        device.set_arithmetic("tf32", CPU)


@pytest.mark.parametrize(
    ("precision", "where", "tf32"),
    [
        ("fp32", CPU, False),
        ("fp32", torch.device("cuda", 0), False),
        ("tf32", torch.device("cuda", 0), True),
    ],
    ids=str,
)
def test_arithmetic(
    arithmetic: None,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    where: torch.device,
    tf32: bool,
) -> None:
    torch.backends.cuda.matmul.allow_tf32 = not tf32
    torch.backends.cudnn.allow_tf32 = not tf32
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    device.set_arithmetic(precision, where)
    assert torch.backends.cuda.matmul.allow_tf32 == tf32
    assert torch.backends.cudnn.allow_tf32 == tf32
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 1
    assert not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_hardware_has_a_name() -> None:
    assert device.describe(CPU) == "CPU"


def set_all(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
