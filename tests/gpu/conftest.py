"""Tests that need a GPU; `make gpu-check` runs them and the timings, in any Python with torch."""

import os
from pathlib import Path

import pytest
import torch

from opproof import build, library
from opproof.backends import LIBRARIES
from opproof.settings import Build

# `make gpu-check` has built the library there already.
OUTPUT = "OPPROOF_GPU_CHECK_OUTPUT"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(scope="session")
def gelu(tmp_path_factory: pytest.TempPathFactory) -> torch._ops._OpNamespace:
    """The operators of csrc/activations/gelu.h, for CPU and GPU."""
    return _loaded("gelu", tmp_path_factory)


@pytest.fixture(scope="session")
def gelu_step(tmp_path_factory: pytest.TempPathFactory) -> torch._ops._OpNamespace:
    """The operators that train LeNet-5 with that activation."""
    return _loaded("gelu_step", tmp_path_factory)


@pytest.fixture(scope="session")
def gelu_erf_step(tmp_path_factory: pytest.TempPathFactory) -> torch._ops._OpNamespace:
    """The same with that of csrc/activations/gelu_erf.h."""
    return _loaded("gelu_erf_step", tmp_path_factory)


def _loaded(name: str, factory: pytest.TempPathFactory) -> torch._ops._OpNamespace:
    output = Path(os.environ.get(OUTPUT) or factory.mktemp("results"))
    if not library.record_path(output, name).exists():
        build.build(LIBRARIES[name], Build("on", "8.0;9.0+PTX"), output)
    library.load(output, name)
    return getattr(torch.ops, f"opproof_{name}")
