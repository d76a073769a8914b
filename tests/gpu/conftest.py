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
    output = Path(os.environ.get(OUTPUT) or tmp_path_factory.mktemp("results"))
    if not library.record_path(output, "gelu").exists():
        build.build(LIBRARIES["gelu"], Build("on", "8.0;9.0+PTX"), output)
    library.load(output, "gelu")
    return torch.ops.opproof_gelu
