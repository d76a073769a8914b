"""The verify stage: holds a backend against the truth, beside F.gelu, and writes a verdict.

It ends with status 0 whatever the verdict: a wrong operator is a finding, not a failed job.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from opproof import arguments, artifact, device, operators
from opproof.errors import BackendError
from opproof.operators import MACHINE_FAULTS, Activation
from opproof.settings import Backend, Settings
from opproof.verify import accuracy, checks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `opproof verify`."""
    arguments.add_config(parser)
    arguments.add_backend(parser)


def main(args: argparse.Namespace) -> int:
    """Verify one backend, write its verdict and print it; return 0 whatever it is."""
    settings = arguments.read_settings(args)
    backend = settings.backend(args.backend)
    record = verify(settings, backend)
    artifact.write_json(Path(settings.output) / "verify" / f"{backend.name}.json", record)
    print("\n".join([f"{backend.name}: {record['verdict']}", *record["reasons"]]))
    return 0


def verify(settings: Settings, backend: Backend) -> dict[str, Any]:
    """Return the verdict on a backend and all that it rests on; no clock and no host in it.

    Raises UserError where the device or the library are not as they must be.
    """
    where = device.resolve(settings.device)
    device.set_arithmetic("fp32", where)
    baseline = _accuracy(F.gelu, where)
    observed: dict[str, Any] = {}
    mse = math.nan
    gates: dict[str, str | None]
    try:
        activation = operators.resolve(backend, Path(settings.output))
        observed = _accuracy(activation, where)
        mse = accuracy.gradient_mse(activation, where)
    except BackendError as error:
        gates = {"usable": str(error)}
    except MACHINE_FAULTS:
        raise
    except Exception as error:  # the operator is somebody's code: what it raises is the finding
        gates = {"usable": f"{type(error).__name__}: {error}".splitlines()[0]}
    else:
        gates = {"usable": None, **dict(_gates(activation, observed, baseline, where))}
    reasons = [f"{gate}: {fault}" for gate, fault in gates.items() if fault]
    return {
        "backend": backend.name,
        "verdict": "fail" if reasons else "pass",
        "expected": backend.expect.verify if backend.expect else "pass",
        "expectation": backend.expect.reason if backend.expect else None,
        "reasons": reasons,
        "gates": {gate: "fail" if fault else "pass" for gate, fault in gates.items()},
        "device": where.type,
        "gradient_mse": _without_infinities(mse),
        "accuracy": _without_infinities(observed),
        "baseline_accuracy": _without_infinities(baseline),
    }


def _accuracy(activation: Activation, where: torch.device) -> dict[str, Any]:
    return {_name(dtype): accuracy.errors(activation, dtype, where) for dtype in accuracy.DTYPES}


def _gates(
    activation: Activation,
    observed: dict[str, Any],
    baseline: dict[str, Any],
    where: torch.device,
) -> Iterator[tuple[str, str | None]]:
    """Yield each gating check's name, and what is wrong or None."""
    for dtype in accuracy.DTYPES:
        name = _name(dtype)
        limits = {
            direction: checks.limit(baseline[name], dtype, direction)
            for direction in accuracy.DIRECTIONS
        }
        for direction, limit in limits.items():
            fault = checks.close_to_truth(observed[name], direction, limit)
            yield f"{direction} {name}", fault
        yield f"any layout {name}", checks.any_layout(activation, dtype, limits, where)
    yield "gradcheck", checks.gradcheck(activation, where)
    yield "gradgradcheck", checks.gradgradcheck(activation, where)
    if checks.is_registered(activation):
        yield "opcheck", checks.opcheck(activation, where)
    yield "repeatable", checks.repeatable(activation, where)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _without_infinities(value: Any) -> Any:
    """Return numbers that JSON lacks as text, "inf" or "nan", at every depth."""
    if isinstance(value, dict):
        return {key: _without_infinities(entry) for key, entry in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
