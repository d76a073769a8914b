"""Samples how much a job uses its GPU, through NVML."""

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import groupby
from types import TracebackType
from typing import NamedTuple

import pynvml
import torch

_INTERVAL = 0.2  # seconds

# Of a job's record, however long the job is.
_MOST_SAMPLES = 200


class _Reading(NamedTuple):
    """What the driver told, as far as it did."""

    seconds: float  # since the sampler was entered
    utilisation: int | None  # per cent
    memory: int | None  # bytes


class GpuSampler:
    """Measures, while it is entered, a GPU's utilisation and memory; nothing on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._readings: list[_Reading] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "GpuSampler":
        if self.device.type == "cuda":
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def summary(self) -> dict[str, float | int | None] | None:
        """Return mean utilisation (per cent) and peak memory in use on the GPU (bytes), or None."""
        utilisation = _mean(reading.utilisation for reading in self._readings)
        if utilisation is None:
            return None
        memory = _largest(reading.memory for reading in self._readings)
        return {"utilisation_percent": utilisation, "peak_memory_bytes": memory}

    def samples(self) -> list[dict[str, float | int | None]]:
        """Return the same of each second, or of so many at once that 200 samples are enough.

        With the seconds, since the sampler was entered, after which each ends. Empty on a CPU.
        """
        if not self._readings:
            return []
        seconds = 1 + int(self._readings[-1].seconds // _MOST_SAMPLES)
        samples = []
        for number, group in groupby(self._readings, lambda r: int(r.seconds // seconds)):
            readings = [*group]
            samples.append(
                {
                    "seconds": (number + 1) * seconds,
                    "utilisation_percent": _mean(reading.utilisation for reading in readings),
                    "memory_bytes": _largest(reading.memory for reading in readings),
                }
            )
        return samples

    def _sample(self) -> None:
        # A driver that does not tell, as under MIG, is no reason to end the job.
        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            try:
                self._read_until_stopped()
            finally:
                pynvml.nvmlShutdown()

    def _read_until_stopped(self) -> None:
        # By UUID: NVML counts all GPUs of a machine, torch those that the job may see.
        uuid = torch.cuda.get_device_properties(self.device).uuid
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
        start = time.monotonic()
        while not self._stop.wait(_INTERVAL):
            utilisation = _told(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
            memory = _told(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).used)
            self._readings.append(_Reading(time.monotonic() - start, utilisation, memory))


def _told(question: Callable[[], int]) -> int | None:
    try:
        return question()
    except pynvml.NVMLError:
        return None


def _mean(values: Iterable[int | None]) -> float | None:
    told = [value for value in values if value is not None]
    return sum(told) / len(told) if told else None


def _largest(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
