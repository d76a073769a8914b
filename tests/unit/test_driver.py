"""What the driver says of the GPUs that a process may use; the driver's part is played here."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

from opproof import driver

GOOD = "GPU-8f0c5a6e-0000-0000-0000-000000000000"
OTHER = "GPU-11111111-0000-0000-0000-000000000000"
PART = "MIG-22222222-0000-0000-0000-000000000000"

NOT_SUPPORTED = pynvml.NVMLError_NotSupported()
NO_PERMISSION = pynvml.NVMLError_NoPermission()
NO_FUNCTION = pynvml.NVMLError_FunctionNotFound()
LOST = pynvml.NVMLError_GpuIsLost()
RESET = pynvml.NVMLError(pynvml.NVML_ERROR_RESET_REQUIRED)


@dataclass
class Gpu:
    """A GPU as the driver tells of it: each answer a value, or the error that it gives instead."""

    uuid: str | Exception = GOOD
    handle: Exception | None = None
    memory: Exception | None = None
    remapped: tuple[int, int, int, int] | Exception = (0, 0, 0, 0)
    parts: list[str] = field(default_factory=list)


def play(monkeypatch: pytest.MonkeyPatch, *gpus: Gpu, init: Exception | None = None) -> list[str]:
    """Put a driver with these GPUs in the place of NVML; return what it is asked for."""
    asked: list[str] = []

    def answer(value: object) -> object:
        if isinstance(value, Exception):
            raise value
        return value

    def by_index(index: int) -> Gpu:
        answer(gpus[index].handle)
        return gpus[index]

    def part(uuid: str) -> str:
        return uuid if any(uuid in gpu.parts for gpu in gpus) else answer(NOT_FOUND)

    errors = {name: getattr(pynvml, name) for name in dir(pynvml) if name.startswith("NVMLError")}
    functions = {
        "nvmlInit": lambda: answer(init),
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: len(gpus),
        "nvmlDeviceGetHandleByIndex": by_index,
        "nvmlDeviceGetHandleByUUID": part,
        "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": lambda uuid: next(
            gpu for gpu in gpus if uuid in gpu.parts
        ),
        "nvmlDeviceGetUUID": lambda gpu: answer(gpu.uuid),
        "nvmlDeviceGetMemoryInfo": lambda gpu: answer(gpu.memory),
        "nvmlDeviceGetRemappedRows": lambda gpu: answer(gpu.remapped),
    }
    noted = {
        name: lambda *given, name=name: (asked.append(name), functions[name](*given))[1]
        for name in functions
    }
    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(**errors, **noted))
    return asked


NOT_FOUND = pynvml.NVMLError_NotFound()


@pytest.fixture(autouse=True)
def nothing_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "CUDA_VISIBLE_DEVICES"])
def test_a_gpu_is_promised_by_each_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert driver.promised_gpu() is None
    for none in ("", "-1", "NoDevFiles"):
        monkeypatch.setenv(name, none)
        assert driver.promised_gpu() is None
    monkeypatch.setenv(name, "1,2")
    assert driver.promised_gpu() == f"{name}=1,2 gives this job a GPU"


SOUND = [
    ("0", [Gpu()]),
    ("1", [Gpu(OTHER, memory=LOST), Gpu()]),
    ("0,-1,7", [Gpu()]),
    ("0, 1", [Gpu(), Gpu(OTHER)]),
    (GOOD, [Gpu(OTHER), Gpu()]),
    (GOOD[:9], [Gpu(OTHER), Gpu()]),
    (GOOD, [Gpu(LOST), Gpu(OTHER, handle=LOST), Gpu()]),
    (PART, [Gpu(OTHER), Gpu(parts=[PART])]),
    (f"MIG-{GOOD}/1/0", [Gpu(OTHER, memory=LOST), Gpu()]),
    ("0", [Gpu(memory=NOT_SUPPORTED, remapped=NOT_SUPPORTED)]),
    ("0", [Gpu(memory=NO_PERMISSION, remapped=NO_PERMISSION)]),
    ("0", [Gpu(remapped=NO_FUNCTION)]),
    ("0", [Gpu(remapped=(3, 1, 0, 0))]),
    (None, [Gpu(), Gpu(memory=LOST)]),
    ("-1", [Gpu()]),
]


@pytest.mark.parametrize(("visible", "gpus"), SOUND, ids=range(len(SOUND)))
def test_a_gpu_that_works(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, gpus: list[Gpu]
) -> None:
    asked = play(monkeypatch, *gpus)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert driver.fault() is None
    assert asked[-1] == "nvmlShutdown"
    assert "nvmlDeviceGetMemoryInfo" in asked  # of one at least


FAULTY = [
    ("0", [], "GPU 0: only 0 there"),
    ("2", [Gpu(), Gpu(OTHER)], "GPU 2: only 2 there"),
    ("0,1", [Gpu()], "GPU 1: only 1 there"),
    (None, [], "GPU 0: only 0 there"),
    ("0", [Gpu(handle=LOST)], "GPU 0: GPU is lost"),
    ("0", [Gpu(memory=LOST)], "GPU 0: GPU is lost"),
    ("0,1", [Gpu(), Gpu(OTHER, memory=LOST)], "GPU 1: GPU is lost"),
    (None, [Gpu(memory=LOST), Gpu(OTHER)], "GPU 0: GPU is lost"),
    ("0", [Gpu(memory=RESET)], f"GPU 0: {RESET}"),
    ("0", [Gpu(remapped=(0, 1, 1, 0))], "GPU 0: its memory has errors that wait for a reset"),
    ("0", [Gpu(remapped=(0, 9, 0, 1))], "GPU 0: its memory has errors that wait for a repair"),
    (GOOD, [Gpu(memory=LOST)], f"GPU {GOOD}: GPU is lost"),
    (GOOD, [Gpu(OTHER)], f"GPU {GOOD}: there is none of this name"),
    (GOOD, [Gpu(LOST)], f"GPU {GOOD}: there is none of this name"),
    (PART, [Gpu()], f"GPU {PART}: {NOT_FOUND}"),
    (PART, [Gpu(parts=[PART], memory=LOST)], f"GPU {PART}: GPU is lost"),
    (f"MIG-{GOOD}/1/0", [Gpu(memory=LOST)], f"GPU MIG-{GOOD}/1/0: GPU is lost"),
    ("none of these", [Gpu()], "GPU none of these: there is none of this name"),
]


@pytest.mark.parametrize(("visible", "gpus", "words"), FAULTY, ids=[case[2] for case in FAULTY])
def test_a_gpu_that_does_not_work(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, gpus: list[Gpu], words: str
) -> None:
    asked = play(monkeypatch, *gpus)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert driver.fault() == words
    assert asked[-1] == "nvmlShutdown"


@pytest.mark.parametrize(
    "error", [pynvml.NVMLError_DriverNotLoaded(), pynvml.NVMLError_LibRmVersionMismatch()], ids=str
)
def test_a_driver_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch, error: pynvml.NVMLError
) -> None:
    play(monkeypatch, Gpu(), init=error)
    assert driver.fault() == str(error)


def test_without_nvml_it_is_the_drivers_own_trace_that_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = pynvml.NVMLError_LibraryNotFound()
    play(monkeypatch, init=error)
    exists = Path.exists
    for there, expected in ((False, str(error)), (True, None)):

        def answer(path: Path, there: bool = there) -> bool:
            return there if str(path) == "/proc/driver/nvidia/version" else exists(path)

        monkeypatch.setattr(Path, "exists", answer)
        assert driver.fault() == expected


def test_without_anything_to_ask_with_torch_must_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert driver.fault() is None


def test_as_a_program_it_asks_the_real_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "63")
    done = subprocess.run(
        [sys.executable, "-m", "opproof.driver"], capture_output=True, text=True, check=True
    )
    assert done.stdout == driver.fault()
    assert done.stdout
