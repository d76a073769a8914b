"""The verify stage: holds a backend against the truth of its reference, and writes a verdict.

It ends with status 0 whatever the verdict: a wrong operator is a finding, not a failed job.
"""

import argparse
import functools
import math
from pathlib import Path
from typing import Any

import torch

from opproof import arguments, artifact, device, lease, library, on_demand, operators
from opproof.errors import BackendError
from opproof.settings import Backend, Settings
from opproof.verify import accuracy, findings, gates, points, yardstick
from opproof.verify.outcome import in_one_line
from opproof.verify.points import Density
from opproof.verify.yardstick import Yardstick


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `opproof verify`."""
    arguments.add_config(parser)
    arguments.add_backend(parser)
    parser.add_argument(
        "--thorough",
        action="store_true",
        help="every float32 in [-12, 12] instead of one in 7, which takes minutes",
    )


def main(args: argparse.Namespace) -> int:
    """Verify one backend, write its verdict and print it; return 0 whatever it is.

    By hand its library is built first where need be; a job finds it built.
    """
    settings = arguments.read_settings(args)
    backend = settings.backend(args.backend)
    if not arguments.are_frozen(args):
        on_demand.build_for(settings, backend)
    output = Path(settings.output)
    path = output / "verify" / f"{backend.name}.json"
    job = lease.take(output, path)
    record = verify(settings, backend, args.thorough)
    job.check()
    artifact.write_json(path, record)
    print("\n".join([f"{backend.name}: {record['verdict']}", *record["reasons"]]))
    for name, found in record["findings"].items():
        if not found["holds"]:
            print(f"finding: {name}: {found['detail']}")
    return 0


def verify(settings: Settings, backend: Backend, thorough: bool = False) -> dict[str, Any]:
    """Return the verdict on a backend and all that it rests on; no clock and no host in it.

    Raises UserError where the device or the library are not as they must be.
    """
    where = device.resolve(settings.device)
    device.set_arithmetic("fp32", where)
    density = points.THOROUGH if thorough else points.USUAL
    held_to: Yardstick | None = None
    own: dict[str, Any] = {}
    findings_of_own: dict[str, Any] = {}
    observed: dict[str, Any] = {}
    found: dict[str, Any] = {}
    mse = math.nan
    faults: dict[str, str | None]
    try:
        held_to = yardstick.of(backend.reference)
        own, findings_of_own = _of_yardstick(held_to, where, density)
        if backend.library and where.type == "cuda":
            library.require_cuda(Path(settings.output), backend.library)
        activation = operators.resolve(backend, Path(settings.output))
        pooled = operators.resolve_pooled(backend, Path(settings.output))
        observed, unsupported = accuracy.by_dtype(activation, held_to.truth, where, density)
        mse = accuracy.gradient_mse(activation, held_to.activation, where)
    except BackendError as error:
        faults = {"usable": str(error)}
    except Exception as error:  # the operator is somebody's code: what it raises is the finding
        faults = {"usable": in_one_line(error)}
    else:
        known = held_to.truth
        checked = gates.of_activation(activation, held_to, observed, own, backend.max_ulp, where)
        faults = {"usable": None, **dict(checked)}
        if pooled is not None:
            faults |= dict(gates.of_pooled(pooled, held_to, observed, where))
        limits = gates.limits(own, known, torch.float32)
        found = findings.collect(activation, known, unsupported, limits, where)
    reasons = [f"{gate}: {fault}" for gate, fault in faults.items() if fault]
    return {
        "backend": backend.name,
        "verdict": "fail" if reasons else "pass",
        "expected": backend.expect.verify if backend.expect else "pass",
        "expectation": backend.expect.reason if backend.expect else None,
        "reasons": reasons,
        "gates": {gate: "fail" if fault else "pass" for gate, fault in faults.items()},
        "reference": backend.reference,
        "claim": {"max_ulp": backend.max_ulp},
        "device": where.type,
        "thorough": thorough,
        "gradient_mse": _without_infinities(mse),
        "accuracy": _without_infinities(observed),
        "yardstick_accuracy": _without_infinities(own),
        "findings": found,
        "yardstick_findings": findings_of_own,
    }


@functools.cache
def _of_yardstick(
    held_to: Yardstick, where: torch.device, density: Density
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the reference's own errors and findings, once in a process."""
    own, known = held_to.activation, held_to.truth
    observed, unsupported = accuracy.by_dtype(own, known, where, density)
    limits = gates.limits(observed, known, torch.float32)
    return observed, findings.collect(own, known, unsupported, limits, where)


def _without_infinities(value: Any) -> Any:
    """Return numbers that JSON lacks as text, "inf" or "nan", at every depth."""
    if isinstance(value, dict):
        return {key: _without_infinities(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_infinities(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
