"""Samples how much a job uses its GPU, through NVML."""

import threading
from contextlib import suppress
from types import TracebackType

import pynvml
import torch

_INTERVAL = 0.2  # seconds


class GpuSampler:
    """Measures, while it is entered, a GPU's utilisation and memory; nothing on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.utilisation: list[int] = []
        self.memory: list[int] = []
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
        if not self.utilisation:
            return None
        return {
            "utilisation_percent": sum(self.utilisation) / len(self.utilisation),
            "peak_memory_bytes": max(self.memory, default=None),
        }

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
        while not self._stop.wait(_INTERVAL):
            with suppress(pynvml.NVMLError):
                self.utilisation.append(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
            with suppress(pynvml.NVMLError):
                self.memory.append(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
