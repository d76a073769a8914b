"""Whether OPERATOR_NAME is right: by verification, and as a layer. For pytest, in this folder."""

import subprocess
import sys

import opproof
import torch
from OPERATOR_NAME_reference import OPERATOR_NAME as reference


def test_verification_lets_it_pass() -> None:
    command = [sys.executable, "-m", "opproof", "verify", "--backend", "OPERATOR_NAME"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert "OPERATOR_NAME: pass" in run.stdout.splitlines(), run.stdout + run.stderr


def test_it_is_a_layer() -> None:
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    layer = opproof.load("OPERATOR_NAME")
    torch.testing.assert_close(layer(x), reference(x))
    gradients = [torch.autograd.grad(function(x).sum(), x)[0] for function in (layer, reference)]
    torch.testing.assert_close(*gradients)
