"""Engines: how the runs of a backend are trained, used by training and by its timing."""

from pathlib import Path

import torch

from opproof import operators
from opproof.engines.engine import Engine
from opproof.engines.graph import GraphEngine
from opproof.engines.kernel import KernelEngine
from opproof.settings import Backend, Settings

__all__ = ["Engine", "create"]


def create(engine: str, settings: Settings, backend: Backend, device: torch.device) -> Engine:
    """Return the engine of that name, with the data and the backend's operators loaded.

    Raises BackendError where the backend has none for it, and UserError where data or libraries are
    not as they must be.
    """
    folder, training = Path(settings.data.folder), settings.train
    output = Path(settings.output)
    if engine == "kernel":
        library = operators.resolve_step(backend, output, device)
        return KernelEngine(folder, training, library, settings.precision == "tf32", device)
    activation = operators.resolve(backend, output)
    pooled = operators.resolve_pooled(backend, output)
    if engine == "graph":
        return GraphEngine(folder, training, activation, pooled, device)
    from opproof.engines.reference import ReferenceEngine  # needs torchvision, slow to import

    return ReferenceEngine(folder, training, activation, pooled, device)
