"""Reports to look at: of a usual run, of one of 500 runs, and of one in which much has failed."""

from pathlib import Path
from typing import Any

import pytest

from opproof import config, summary
from opproof.settings import Settings
from tests.unit.summaries import (
    HOLDS,
    NASTY,
    edit,
    leave,
    measured,
    raised,
    row,
    run,
    timed,
    timed_training,
    verified,
)

BUILT_IN = ("torch", "python", "cpp", "fused", "pooled")
# As long as a name may be, and a path in a compiler's message that no line can hold.
LONG_NAME = "a_backend_whose_name_is_as_long_as_names_may_be.of_64_characters"
LONG_WORD = "/home/someone/" + "a-folder-in-a-folder/" * 12 + "kernel.cu:3"
LONG_TEXT = f"{NASTY} at {LONG_WORD}: " + "a template of a template of " * 20


def usual() -> Settings:
    """Leave what a run of five backends and three seeds does, without a fault."""
    settings = _settings(backends=[*BUILT_IN], seeds=[3, 17, 29])
    _all_went_well(settings)
    return settings


def large() -> Settings:
    """Leave what a run of five backends and a hundred seeds does."""
    hundred = {"first": 0, "count": 100}
    settings = _settings(backends=[*BUILT_IN], seeds=hundred, seeds_per_job=10)
    _all_went_well(settings)
    return settings


def failures() -> Settings:
    """Leave runs that failed, a refused backend, one that nothing is there of, and a control."""
    control = {"verify": "fail", "reason": "<&> " + "a control " * 15}
    settings = _settings(
        backends=[
            "torch",
            {"name": "mine", "op": "a:b"},
            {"name": "refused", "op": "a:b"},
            {"name": "not_there", "op": "a:b"},
            {"name": LONG_NAME, "op": "a:b", "expect": control},
        ],
        seeds=[3, 17, 29, 31],
        seeds_per_job=2,
    )
    _all_went_well(settings)
    edit(_block("mine", 0), runs=[run(3, NASTY), run(17, LONG_TEXT)])
    edit(_block("mine", 1), runs=[run(29, LONG_WORD), run(31, "the loss became nan at step 4")])
    wrong = {"holds": False, "detail": LONG_TEXT}
    verified("mine", findings={"zeros": wrong, "a & b < c": {"holds": None, "detail": LONG_WORD}})
    verified("refused", verdict="fail", reasons=[LONG_TEXT, LONG_WORD], accuracy={}, findings={})
    for block in (0, 1):
        changes = {"not_trained": "refused by verification", "runs": [], "device": None}
        edit(_block("refused", block), **changes, measurements={})
        _block("not_there", block).unlink()
    Path("results/verify/not_there.json").unlink()
    expectation = {"expected": "fail", "expectation": control["reason"]}
    verified(LONG_NAME, verdict="fail", **expectation)
    unusable = {"shape": None, "values": None, "direction": None}
    timed(
        row("torch", None),
        row(LONG_NAME),
        raised("mine", LONG_TEXT),
        raised("refused", LONG_WORD, **unusable),
        raised("compile", LONG_TEXT),
        hardware=f"{NASTY} {LONG_WORD}",
        skipped=[{"operation": "activation", "shape": [10], "values": "normal", "reason": NASTY}],
    )
    timed_training(
        measured("torch", engine="reference"),
        measured(LONG_NAME, None, measure=None, error=LONG_WORD),
        skipped=[{"engine": "kernel", "backend": "mine", "reason": LONG_TEXT}],
    )
    return settings


REPORTS = (usual, large, failures)


def write(folder: Path) -> dict[str, Path]:
    """Write them below `folder` and return where each is, by its name."""
    paths = {}
    for arrange in REPORTS:
        here = folder / arrange.__name__
        here.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(here)
            summary.write(arrange(), Path("results"))
        paths[arrange.__name__] = here / "results" / "report.html"
    return paths


def _settings(**configured: Any) -> Settings:
    settings = config.resolve({**configured, "train": {"epochs": 2}})
    settings.freeze()
    return settings


def _all_went_well(settings: Settings) -> None:
    names = [backend.name for backend in settings.backends]
    for name in names:
        leave(settings, name)
        not_all = {"holds": False, "detail": "off by 0.0001 at -3.0625, then at -3.125 " * 4}
        findings = {"zeros": HOLDS, "monotone": not_all, "vmap": HOLDS}
        verified(name, findings=findings, yardstick_findings=findings)
    timed(
        *(
            row(name, None if name == "torch" else 2.0, direction=direction, shape=shape)
            for name in (*names, "compile")
            for direction in ("forward", "backward", "both")
            for shape in ([1000], [1_000_000], [64, 6, 24, 24])
        )
    )
    ratio = {"measure": "ratio_to_reference", "low": 1.5, "high": 2.5, "verdict": "FASTER"}
    timed_training(
        *(measured(name, engine=engine) for name in names for engine in ("reference", "graph")),
        *(measured(name, 2.0, **ratio) for name in names),
    )


def _block(name: str, number: int) -> Path:
    return Path(f"results/train/{name}/{number}/block.json")
