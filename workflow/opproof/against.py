"""What has become worse since an earlier summary: `opproof check --against`."""

from collections.abc import Callable, Iterator
from typing import Any

from opproof import ulp

# What must be equal for figures to be compared at all.
_OF_TRAINING = ("engine", "precision", "train")
_OF_TIMING = ("device", "hardware", "threads")

# An error in ULP has grown where it is larger by more than one, and by more than a tenth.
_ULP, _ULP_SHARE = 1.0, 1.1

_Row = dict[str, Any]


def regressions(summary: dict[str, Any], earlier: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each backend, verdict and figure that is worse than in the earlier summary.

    Accuracy is worse where its mean fell by more than the margin; a ratio of times where its whole
    interval lies below the earlier one's by more than the timing's threshold, on the same hardware.
    """
    found = {backend["name"]: backend for backend in summary["results"]["backends"]}
    same_training = all(summary["results"][key] == earlier["results"][key] for key in _OF_TRAINING)
    if not same_training:
        yield "the earlier summary is of another engine, precision or training"
    for before in earlier["results"]["backends"]:
        name = before["name"]
        if name not in found:
            yield f"{name}: it was there before, and is not now"
            continue
        yield from _of_backend(found[name], before, same_training)
    for kind, of in _TIMINGS.items():
        yield from _slower(summary["measurements"][kind], earlier["measurements"][kind], of)


def _of_backend(now: dict[str, Any], before: dict[str, Any], same_training: bool) -> Iterator[str]:
    name = now["name"]
    verdicts = (before["verification"]["verdict"], now["verification"]["verdict"])
    if verdicts[0] == "pass" != verdicts[1]:
        yield f"{name}: verification said pass before, and {verdicts[1]} now"
    errors = ulp.worst(now["verification"])
    for direction, worst in ulp.worst(before["verification"]).items():
        found = errors[direction]
        if found is None or worst is None:
            continue
        if found > max(worst + _ULP, worst * _ULP_SHARE):
            yield f"{name}: {direction} is {found:g} ULP off, it was {worst:g}"
    if same_training and now["accuracy"] and before["accuracy"]:
        fell = before["accuracy"]["mean"] - now["accuracy"]["mean"]
        margin = (now["comparison"] or before["comparison"] or {}).get("margin")
        if margin is not None and fell > margin:
            yield (
                f"{name}: mean accuracy is {now['accuracy']['mean']:.3f} %, it was "
                f"{before['accuracy']['mean']:.3f} %: more than ±{margin:g} points"
            )


def _slower(
    now: dict[str, Any], before: dict[str, Any], of: Callable[[_Row], Any]
) -> Iterator[str]:
    if "missing" in now or "missing" in before:
        return
    if any(now[key] != before[key] for key in _OF_TIMING):
        return  # another machine: ratios differ there too
    earlier = {of(row): row for row in before["rows"] if row["error"] is None}
    for row in now["rows"]:
        if row["error"] is None and (other := earlier.get(of(row))):
            found, was = _interval(row), _interval(other)
            if found and was and found[1] < was[0] / (1 + now["method"]["margin"]):
                words = " ".join(str(part) for part in of(row) if part is not None)
                yield (
                    f"{words}: {found[0]:.2f} to {found[1]:.2f} times as fast, "
                    f"it was {was[0]:.2f} to {was[1]:.2f}"
                )


def _interval(row: _Row) -> tuple[float, float] | None:
    """Return low and high of a row's ratio; None of a row that has none."""
    ratio = row.get("ratio") or (row if row.get("measure") == "ratio_to_reference" else None)
    return (ratio["low"], ratio["high"]) if ratio else None


def _operator(row: _Row) -> tuple[Any, ...]:
    shape = "x".join(map(str, row["shape"]))
    return (row["backend"], row["operation"], shape, row["values"], row["direction"], row["mode"])


def _trained(row: _Row) -> tuple[Any, ...]:
    keys = ("backend", "measure", "engine", "seeds", "arithmetic")
    return tuple(row[key] for key in keys)


_TIMINGS: dict[str, Callable[[_Row], Any]] = {"operators": _operator, "training_time": _trained}
