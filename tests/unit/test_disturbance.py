"""What is told of a disturbed device; the device itself is made."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from opproof.timing import disturbance
from opproof.timing.disturbance import Watch

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1.9, 9.0, 9.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


def test_a_quiet_cpu_has_no_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disturbance, "_CPUS", tmp_path)  # of a virtual machine
    assert Watch(CPU).marks() == []


def test_load_above_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(CPU)
    monkeypatch.setattr(os, "getloadavg", lambda: (2.5, 0.0, 0.0))
    assert watch.marks() == ["load 2.5 on 2 cores"]


def test_a_cpu_that_was_hot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disturbance, "_CPUS", tmp_path)
    counts = [tmp_path / f"cpu{n}" / "thermal_throttle" / "core_throttle_count" for n in (0, 11)]
    for count in counts:
        count.parent.mkdir(parents=True)
        count.write_text("7\n")
    watch = Watch(CPU)
    assert watch.marks() == []
    counts[1].write_text("8\n")
    assert watch.marks() == ["throttled: heat"]
    assert watch.marks() == [], "once"


def test_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    violations = {pynvml.NVML_PERF_POLICY_POWER: 5, pynvml.NVML_PERF_POLICY_THERMAL: 0}
    processes = [1]

    def status(handle: Any, policy: int) -> SimpleNamespace:
        if policy not in violations:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(violationTime=violations[policy])

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="1-2"))
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: uuid)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetViolationStatus", status)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", lambda _: processes)
    watch = Watch(CUDA)
    assert watch.marks() == []
    violations[pynvml.NVML_PERF_POLICY_POWER] += 10
    processes.append(2)
    assert watch.marks() == ["throttled: power", "shared: 1 other process on the GPU"]
    violations.clear()
    processes.clear()
    assert watch.marks() == [], "where the driver does not tell"
