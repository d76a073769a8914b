"""What verification left of each backend, with F.gelu beside them."""

from typing import Any

from opproof.backends import BASELINE

F_GELU = "F.gelu"

_VERDICTS = {
    ("pass", "pass"): "pass",
    ("fail", "pass"): "REFUSED",
    ("fail", "fail"): "fails as expected",
    ("pass", "fail"): "PASSES unexpectedly",
}


def in_words(verification: dict[str, Any]) -> str:
    """Word a verdict and whether it was expected."""
    return _VERDICTS.get((verification["verdict"], verification["expected"]), "MISSING")


def notes(verification: dict[str, Any]) -> list[str]:
    """Return why a backend is refused, or else what its verdict was expected for."""
    if verification["verdict"] == verification["expected"]:
        expectation = verification.get("expectation")
        return [f"expected to {verification['expected']}: {expectation}"] if expectation else []
    return verification["reasons"] or [f"expected to {verification['expected']}"]


def beside_baseline(summary: dict[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
    """Return what was verified under `key`: F.gelu's, and each backend's that has it, by name.

    The backend torch is F.gelu, and is not there a second time.
    """
    backends = [
        (backend["name"], backend["verification"]) for backend in summary["results"]["backends"]
    ]
    baselines = (found.get(f"baseline_{key}") for _, found in backends)
    baseline = next(filter(None, baselines), None)
    return [(F_GELU, baseline)] * bool(baseline) + [
        (name, found[key]) for name, found in backends if found.get(key) and name != BASELINE
    ]


def claim(verification: dict[str, Any]) -> float | None:
    """Return the largest error in ULP that the backend claims, None if it claims none."""
    return verification.get("claim", {}).get("max_ulp")


def count_not_held(verification: dict[str, Any]) -> int | None:
    """Return how many findings do not hold, None if there are none."""
    findings = verification.get("findings")
    return sum(found["holds"] is False for found in findings.values()) if findings else None
