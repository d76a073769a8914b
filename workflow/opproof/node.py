"""Ends a job that was given a GPU, at its start, on a node where the driver can't open it."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from opproof import arguments, bad_nodes, driver
from opproof.errors import UserError

# Seconds; a driver that has to wake eight GPUs takes ten.
_PATIENCE = 60.0


def require_gpu(argv: Sequence[str]) -> None:
    """Raise UserError where the GPU that this job was given, and is to use, does not work.

    `argv` are the stage's arguments. To be called before torch is imported, which takes seconds.
    In a job of SLURM the node is listed for retries to avoid.
    """
    promise = driver.promised_gpu()
    if promise is None:
        return
    settings = arguments.read_ahead(argv)
    if settings is None or settings.device == "cpu":
        return
    if fault := _driver_fault():
        why = f"{promise}, but the driver says: {fault}"
        raise UserError(f"no GPU: {why}; {_where()}; {_what_next(Path(settings.output), why)}")


def _driver_fault() -> str | None:
    """Return what the driver says, asked by another process: it may be stuck, and that with it."""
    command = [sys.executable, "-m", "opproof.driver"]
    asking = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        return asking.communicate(timeout=_PATIENCE)[0] or None
    except subprocess.TimeoutExpired:
        asking.kill()  # and not waited for: stuck in the kernel, it would not end
        return f"nothing for {_PATIENCE:g} seconds"


def _where() -> str:
    host, node = socket.gethostname(), bad_nodes.this_node()
    place = host if node in (host, None) else f"{host}, SLURM's node {node}"
    given = ", ".join(f"{name}: {os.environ.get(name, 'not set')}" for name in driver.VARIABLES)
    return f"on {place} ({given})"


def _what_next(output: Path, why: str) -> str:
    node = bad_nodes.this_node()
    if node is None:
        return "to compute on a CPU, set device: cpu"
    try:
        bad_nodes.add(output, node, socket.gethostname(), why)
    except UserError as error:
        return f"a retry may come here again: {error}"
    return "the node is put on this run's list of bad nodes: a retry goes elsewhere"
