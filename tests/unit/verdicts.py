"""What the tests of verification share: a verdict on an operator of a test's own, soon found."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from opproof import config, verify
from opproof.verify import composition, points, properties
from opproof.verify.outcome import Finding
from opproof.verify.points import Density

CPU = torch.device("cpu")


@pytest.fixture
def coarse(arithmetic: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be coarse, and leave torch and verification as they were."""
    be_coarse(monkeypatch.setattr)


def be_coarse(put: Callable[[object, str, object], None] = setattr) -> None:
    """Look at fewer points and compile nothing: enough for faults as gross as the tests'."""
    put(points, "USUAL", Density(fine=5_003, coarse=1_000_003, float64=81))
    put(points, "SPARSE", Density(fine=50_021, coarse=1_000_003, float64=0))
    put(properties, "_RUN", 1 << 10)
    put(composition, "compiles", lambda *_: Finding(None, "left out"))


def verdict(backend: str | dict[str, Any], output: Path = Path(), **changes: Any) -> dict[str, Any]:
    """Verify a backend, an entry of config.yaml, on the CPU, with changes to what it resolves to.

    Its op may be a registered one too, of no library.
    """
    entry = backend if isinstance(backend, str) else {**backend, "op": "users:own"}
    settings = config.resolve({"backends": [entry], "device": "cpu"})
    settings = dataclasses.replace(settings, output=str(output))
    if not isinstance(backend, str):
        changes = {"op": backend["op"], **changes}
    return verify.verify(settings, dataclasses.replace(settings.backends[0], **changes))


def failed(record: dict[str, Any]) -> list[str]:
    """Return the names of the gates that refuse it."""
    return [gate for gate, result in record["gates"].items() if result == "fail"]
