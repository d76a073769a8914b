"""What verification left of each backend, with its reference in torch beside it."""

from typing import Any

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


def beside_yardsticks(summary: dict[str, Any], key: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return what was verified under `key`: name, reference, and what was found.

    By reference, that in torch first, "F.gelu" by name; then each backend's that has it, but for a
    backend that is the reference, as torch is F.gelu.
    """
    backends = summary["results"]["backends"]
    found = []
    for reference in dict.fromkeys(backend["reference"] for backend in backends):
        family = [backend for backend in backends if backend["reference"] == reference]
        verified = [(one, one["verification"]) for one in family]
        own = next(filter(None, (record.get(f"yardstick_{key}") for _, record in verified)), None)
        found += [(reference, reference, own)] if own else []
        found += [
            (one["name"], reference, record[key])
            for one, record in verified
            if record.get(key) and one["op"] != reference
        ]
    return found


def claim(verification: dict[str, Any]) -> float | None:
    """Return the largest error in ULP that the backend claims, None if it claims none."""
    return verification.get("claim", {}).get("max_ulp")


def count_not_held(verification: dict[str, Any]) -> int | None:
    """Return how many findings do not hold, None if there are none."""
    findings = verification.get("findings")
    return sum(found["holds"] is False for found in findings.values()) if findings else None
