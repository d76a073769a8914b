"""OpProof proves a custom PyTorch operator: right, harmless to training, and fast."""

__version__ = "0.1.0"
