"""OpProof proves a custom PyTorch operator: right, harmless to training, and fast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opproof.loading import Operator

__version__ = "0.1.0"


def load(name: str, config: str | Path | None = None, pooled: bool = False) -> Operator:
    """Return a backend's operator, for a model of one's own: callable, and a torch.nn.Module.

    `name` is a built-in backend ("fused", say), or one of the file `config`, or else of
    ./config.yaml; `pooled` asks for its activation, 2x2 average pool and activation in one. Its
    library is the one that the pipeline has built (in the output folder of `config`, or in
    ./results); where there is none, it is compiled once, into $XDG_CACHE_HOME/opproof or
    ~/.cache/opproof.

    Raises UserError for an unknown name, a faulty configuration, without a compiler, or where
    others can change the library; BackendError for an operator that does not compile or can't be
    imported (opproof.errors).
    """
    from opproof import loading  # imports torch, which the Snakefile must not

    return loading.Operator(name, Path(config) if config else None, pooled)
