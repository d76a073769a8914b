"""The GPU sampler; NVML and torch's view of a GPU are faked, for most machines have none."""

import threading
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from opproof import gpu_sampler
from opproof.gpu_sampler import GpuSampler

GPU = torch.device("cuda", 1)
UUID = "8f0c5a6e-0000-4000-8000-00000000abcd"
UNSUPPORTED = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
NO_LIBRARY = pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)


class Nvml:
    """Answers as pynvml does: one reading after another, the last for ever, errors raised."""

    NVMLError = pynvml.NVMLError

    def __init__(
        self, utilisation: list[Any], memory: list[Any], init: Exception | None = None
    ) -> None:
        self.utilisation, self.memory, self.init = utilisation, memory, init
        self.calls: list[str] = []
        self.all_read = threading.Event()

    def nvmlInit(self) -> None:  # noqa: N802
        self.calls.append("init")
        if self.init:
            self.all_read.set()
            raise self.init

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.calls.append("shutdown")

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes) -> bytes:  # noqa: N802
        return uuid

    def nvmlDeviceGetUtilizationRates(self, handle: bytes) -> SimpleNamespace:  # noqa: N802
        assert handle == f"GPU-{UUID}".encode()
        return SimpleNamespace(gpu=self._next(self.utilisation), memory=1)

    def nvmlDeviceGetMemoryInfo(self, handle: bytes) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(used=self._next(self.memory), free=1, total=10**9)

    def _next(self, readings: list[Any]) -> Any:
        if len(readings) > 1:
            return readings.pop(0)
        if len(self.utilisation) == 1:
            self.all_read.set()
        if isinstance(readings[0], Exception):
            raise readings[0]
        return readings[0]


def test_a_cpu_is_not_sampled() -> None:
    before = threading.active_count()
    with GpuSampler(torch.device("cpu")) as sampler:
        assert threading.active_count() == before
    assert sampler.summary() is None


def test_mean_and_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    # 20, for ever, is the mean of what comes before it.
    nvml = Nvml(utilisation=[10, 30, 20], memory=[500, 900, 300])
    assert sampled(nvml, monkeypatch) == {
        "utilisation_percent": 20.0,
        "peak_memory_bytes": 900,
    }
    assert nvml.calls == ["init", "shutdown"]


def test_the_job_goes_on_and_the_sampler_ends_when_the_job_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml = Nvml(utilisation=[1], memory=[1])
    with pytest.raises(RuntimeError, match="the job"):
        sampled(nvml, monkeypatch, RuntimeError("the job"))
    assert nvml.calls == ["init", "shutdown"]
    assert not any(thread.name.endswith("(_sample)") for thread in threading.enumerate())


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("utilisation", "memory", "init", "calls"),
    [
        pytest.param([], [], NO_LIBRARY, ["init"], id="no library"),
        pytest.param(
            [UNSUPPORTED], [1], None, ["init", "shutdown"], id="no utilisation, as under MIG"
        ),
        pytest.param([1], [UNSUPPORTED], None, ["init", "shutdown"], id="no memory"),
    ],
)
def test_a_gpu_that_does_not_tell_is_no_fault(
    monkeypatch: pytest.MonkeyPatch,
    utilisation: list[Any],
    memory: list[Any],
    init: Exception | None,
    calls: list[str],
) -> None:
    nvml = Nvml(utilisation, memory, init)
    half = {"utilisation_percent": 1.0, "peak_memory_bytes": None}
    assert sampled(nvml, monkeypatch) in (None, half)
    assert nvml.calls == calls


def sampled(nvml: Nvml, monkeypatch: pytest.MonkeyPatch, fault: Exception | None = None) -> Any:
    """Return the summary of a job that lasts until everything was read."""
    monkeypatch.setattr(gpu_sampler, "pynvml", nvml)
    monkeypatch.setattr(gpu_sampler, "_INTERVAL", 0.001)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=UUID)
    )
    with GpuSampler(GPU) as sampler:
        assert nvml.all_read.wait(60)
        if fault:
            raise fault
    return sampler.summary()
