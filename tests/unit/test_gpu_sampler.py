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
    assert sampler.samples() == []


def test_mean_and_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    # 20, for ever, is the mean of what comes before it.
    nvml = Nvml(utilisation=[10, 30, 20], memory=[500, 900, 300])
    sampler = sampled(nvml, monkeypatch)
    assert sampler.summary() == {"utilisation_percent": 20.0, "peak_memory_bytes": 900}
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
    ("utilisation", "memory", "init", "calls", "told"),
    [
        pytest.param([], [], NO_LIBRARY, ["init"], None, id="no library"),
        pytest.param(
            [UNSUPPORTED],
            [1],
            None,
            ["init", "shutdown"],
            {"utilisation_percent": None, "memory_bytes": 1},
            id="no utilisation, as under MIG",
        ),
        pytest.param(
            [1],
            [UNSUPPORTED],
            None,
            ["init", "shutdown"],
            {"utilisation_percent": 1.0, "memory_bytes": None},
            id="no memory",
        ),
    ],
)
def test_a_gpu_that_does_not_tell_is_no_fault(
    monkeypatch: pytest.MonkeyPatch,
    utilisation: list[Any],
    memory: list[Any],
    init: Exception | None,
    calls: list[str],
    told: dict[str, Any] | None,
) -> None:
    nvml = Nvml(utilisation, memory, init)
    half = {"utilisation_percent": 1.0, "peak_memory_bytes": None}
    sampler = sampled(nvml, monkeypatch)
    assert sampler.summary() in (None, half)
    assert sampler.samples() == ([{"seconds": 1, **told}] if told else [])
    assert nvml.calls == calls


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        pytest.param(
            [(0.2, 10, 7), (0.9, 30, 5), (1.0, 90, 6)],
            [(1, 20.0, 7), (2, 90.0, 6)],
            id="mean and peak of each second",
        ),
        pytest.param([(0.2, 10, 7), (3.4, 20, 5)], [(1, 10.0, 7), (4, 20.0, 5)], id="a gap"),
        pytest.param([(0.2, 10, None), (0.4, None, 5)], [(1, 10.0, 5)], id="each told half"),
        pytest.param([(0.2, None, None)], [(1, None, None)], id="neither"),
    ],
)
def test_samples(readings: list[Any], expected: list[Any]) -> None:
    sampler = GpuSampler(GPU)
    sampler._readings = [gpu_sampler._Reading(*reading) for reading in readings]
    assert [(*sample.values(),) for sample in sampler.samples()] == expected


@pytest.mark.parametrize(
    ("hours", "samples", "width"),
    [(0.05, 180, 1), (0.06, 108, 2), (1, 200, 18), (24, 200, 432)],
)
def test_samples_are_few_however_long_the_job(hours: float, samples: int, width: int) -> None:
    sampler = GpuSampler(GPU)
    count = round(hours * 3600 / 0.2)
    sampler._readings = [gpu_sampler._Reading(0.2 * n, n % 101, n) for n in range(count)]
    found = sampler.samples()
    assert [sample["seconds"] for sample in found] == [width * (n + 1) for n in range(samples)]
    assert found[-1]["memory_bytes"] == count - 1


def sampled(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch, fault: Exception | None = None
) -> GpuSampler:
    """Return the sampler of a job that lasts until everything was read."""
    monkeypatch.setattr(gpu_sampler, "pynvml", nvml)
    monkeypatch.setattr(gpu_sampler, "_INTERVAL", 0.001)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=UUID)
    )
    with GpuSampler(GPU) as sampler:
        assert nvml.all_read.wait(60)
        if fault:
            raise fault
    return sampler
