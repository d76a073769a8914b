"""The tables of a summary: errors, findings, time; and the numbers in them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opproof.settings import Settings
from opproof.summary import formats, overview
from opproof.summary.table import Section, number
from tests.unit.summaries import (
    DAMAGED,
    HOLDS,
    REGIONS,
    TIMING,
    TRAINING,
    errors,
    fits_the_schema,
    flip,
    in_csv_file,
    measured,
    page_of,
    raised,
    refused,
    row,
    settings,
    summarise,
    timed,
    timed_training,
    verified,
)

__all__ = ["settings"]


COMPARED = "Training, compared by seed"
ACCURACY = "Accuracy, float32: error in ULP by region of x"
F_GELU = ["F.gelu", "5.3 / 2.6", "1.7e7 / 16", "1.7e7 / 16", "5.8e-8", "1.2e-7 / 1.2e-7", "-"]


def titles(written: dict[str, Any]) -> list[str]:
    return [section.title for section in formats.sections(written)]


def section_of(written: dict[str, Any], title: str) -> Section:
    (found,) = (section for section in formats.sections(written) if section.title == title)
    return found


@pytest.mark.parametrize(
    ("accuracy", "claimed", "words"),
    [
        pytest.param(
            errors((2.71, 1.9), (0.5, 3.04)),
            3.0,
            ["2.7 / 0.5", "1.9 / 3.0", "2.7 / 3.0", "5.8e-8", "1.2e-7 / 1.2e-7", "≤ 3"],
            id="claims",
        ),
        pytest.param(
            errors(("inf", 1.0), (9.0, 10.0), absolute="inf"),
            None,
            ["inf / 9.0", "1.0 / 10", "inf / 10", "5.8e-8", "inf / inf", "-"],
            id="infinite",
        ),
    ],
)
@pytest.mark.parametrize("torch_too", [True, False])
def test_f_gelu_is_a_row_of_the_errors_once(
    settings: Settings, accuracy: Any, claimed: float | None, words: list[str], torch_too: bool
) -> None:
    if not torch_too:
        settings = dataclasses.replace(settings, backends=settings.backends[1:])
    verified("mine", accuracy={"float32": accuracy}, claim={"max_ulp": claimed})
    written = summarise(settings)
    fits_the_schema(written)
    (table,) = section_of(written, ACCURACY).tables
    columns = ["backend", *REGIONS, "worst", "near a root", "largest absolute", "claimed"]
    assert table.columns == columns
    assert table.rows == [F_GELU, ["mine", *words]]
    assert overview.rows(written)[-1]["ulp"] == words[2].replace(" ", "")


def test_what_could_not_be_used_has_no_errors(settings: Settings) -> None:
    refused("usable: no")
    written = summarise(settings)
    assert section_of(written, ACCURACY).tables[0].rows == [F_GELU]
    assert [shown["ulp"] for shown in overview.rows(written)] == ["1.5/1.5", "-"]


def test_findings_of_all_beside_f_gelu(settings: Settings) -> None:
    no, silent = {"holds": False, "detail": "a|b"}, {"holds": False, "detail": None}
    unknown = {"holds": None, "detail": "no GPU"}
    both = {"zeros": HOLDS, "monotone": no}
    verified("torch", findings=both, yardstick_findings=both)
    verified("mine", findings={"zeros": silent, "monotone": HOLDS, "vmap": unknown})
    written = summarise(settings)
    (table,) = section_of(written, "Findings").tables
    assert table.columns == ["property", "F.gelu", "mine"]
    assert table.rows == [
        ["zeros", "yes", "no"],
        ["monotone", "no: a|b", "yes"],
        ["vmap", "-", "not checked"],
    ]
    assert [figures["findings_not_held"] for figures in in_csv_file()] == ["1", "1"]
    assert r"| monotone | no: a\|b | yes |" in Path("results/summary.md").read_text()


def test_time_against_torch(settings: Settings) -> None:
    small, negative = {"shape": [64, 6]}, {"shape": [100_000], "values": "in [-20, -14]"}
    pooled = {"operation": "pooled", "shape": [64, 6, 24, 24]}
    timed(
        row("torch", None),
        row("mine", 0.5),
        row("compile", 3.0),
        row("mine", 9.0, mode="out"),
        row("mine", 9.0, mode="graph"),
        row("torch", None, ns_per_element=1234.5, **small),
        raised("mine", "no", **small),
        row("compile", 1.0, verdict="UNCLEAR", **small),
        row("mine", 0.125, **negative),
        row("mine", 4.0, direction="backward", via="autograd"),
        row("torch", None, **pooled),
        row("mine", 6.0, direction="both", via="autograd", **pooled),
        skipped=[{"operation": "activation", "shape": [10], "values": "normal", "reason": "why"}],
    )
    section = section_of(summarise(settings), "Time against torch")
    one = "activation, pool and activation in one, against three operators: "
    assert [(table.caption, table.columns[2:], table.rows) for table in section.tables] == [
        (
            "forward",
            ["mine", "compile"],
            [
                ["1,000,000", "0.375", "0.50 [0.38, 0.62] FASTER", "3.00 [2.25, 3.75] FASTER"],
                ["64x6", "1.23e+03", "-", "1.00 [0.75, 1.25] UNCLEAR"],
                ["100,000 in [-20, -14]", "-", "0.12 [0.09, 0.16] FASTER", "-"],
            ],
        ),
        ("backward", ["mine"], [["1,000,000", "-", "4.00 [3.00, 5.00] FASTER~"]]),
        ("forward, in a CUDA graph", ["mine"], [["1,000,000", "-", "9.00 [6.75, 11.25] FASTER"]]),
        (f"{one}forward", [], [["64x6x24x24", "0.375"]]),
        (
            f"{one}forward and backward",
            ["mine"],
            [["64x6x24x24", "-", "6.00 [4.50, 7.50] FASTER"]],
        ),
    ]
    for words in (
        "On cpu: CPU, AVX2, 1 thread,",
        "load average 0.25 before, 1.12 after, on 8 cores",
        "interleaved blocks of 0.5 ms",
        "its 95 % interval",
        "below 1 by 3 %",
        "Skipped: activation, 10: why.",
    ):
        assert words in section.text


def test_speed_is_of_a_million_values_as_in_use(settings: Settings) -> None:
    timed(
        row("torch", None),
        *(
            row("mine", 9.0, direction=direction, **{key: other})
            for direction in ("forward", "backward", "both")
            for key, other in {
                "mode": "out",
                "shape": [1000, 1000],
                "values": "in [-20, -14]",
                "operation": "pooled",
            }.items()
        ),
        row("mine", 0.75, direction="backward"),
        row("compile", 3.0),
    )
    assert [shown["speed"] for shown in overview.rows(summarise(settings))] == ["-", "-/0.75"]
    figures = [list(of_backend.values())[-7:-1] for of_backend in in_csv_file()]
    assert figures == [[""] * 6, ["", "", "", "0.75", "0.5625", "0.9375"]]


@pytest.mark.parametrize(
    ("arrange", "note"),
    [
        pytest.param(TIMING.unlink, f"{TIMING}: missing; run the pipeline or its stage first"),
        pytest.param(lambda: flip(TIMING), f"{TIMING}: {DAMAGED}"),
        pytest.param(lambda: timed(row("mine"), device="cuda"), f"{TIMING}: timed on cuda"),
    ],
    ids=["missing", "damaged", "another device"],
)
def test_without_timing_the_rest_is_shown(
    settings: Settings, arrange: Callable[[], object], note: str
) -> None:
    arrange()
    written = summarise(dataclasses.replace(settings, device="cpu"))
    fits_the_schema(written)
    assert overview.notes(written) == [f"timing: {note}"]
    assert [shown["speed"] for shown in overview.rows(written)] == ["-", "-"]
    assert titles(written) == [COMPARED, ACCURACY, "Findings", "Training time"]
    assert written["provenance"]["timing"] is None


def test_errors_of_torch_compile_are_noted(settings: Settings) -> None:
    timed(row("mine"), raised("compile", "no compiler"))
    notes = overview.notes(summarise(settings))
    assert notes == ["compile: timing, activation: no compiler"]


def test_training_time(settings: Settings) -> None:
    ratio = {"low": 1.5, "high": 2.5, "verdict": "FASTER"}
    many = {"engine": "kernel", "seeds": 16}
    timed_training(
        measured("torch", engine="reference"),
        measured("torch", engine="reference", arithmetic="tf32 convolutions"),
        measured("mine", 1.5),
        measured("mine", 2.0, measure="ratio_to_reference", **ratio),
        measured("mine", 20.0, measure="ratio_to_reference", **ratio, **many),
        measured(None, engine=None, seeds=None, arithmetic=None, measure="event_files_seconds"),
        measured("torch", None, measure=None, error="no"),
        measures={
            "step_seconds": "Of a step.",
            "ratio_to_reference": "Of the times.",
            "event_files_seconds": "Of files.",
        },
        skipped=[{"engine": "kernel", "backend": "mine", "reason": "why"}],
    )
    written = summarise(settings)
    fits_the_schema(written)
    section = section_of(written, "Training time")
    figures, meanings = section.tables
    assert figures.columns == ["measure", "engine", "torch", "mine", "any"]
    assert figures.rows == [
        ["step, ms", "reference", "12.5", "-", "-"],
        ["step, ms", "reference, tf32 convolutions", "12.5", "-", "-"],
        ["step, ms", "graph", "-", "1,500", "-"],
        ["ratio to the reference loop", "graph", "-", "2.00 [1.50, 2.50] FASTER", "-"],
        ["ratio to the reference loop", "kernel, 16 seeds", "-", "20.00 [1.50, 2.50] FASTER", "-"],
        ["event files, s", "any", "-", "-", "0.0125"],
    ]
    assert meanings.rows == [
        ["step, ms", "Of a step."],
        ["ratio to the reference loop", "Of the times."],
        ["event files, s", "Of files."],
    ]
    for words in (
        "On cpu: CPU, AVX2, 1 thread,",
        "A run is 1,876 steps, without start-up, evaluation and event files",
        "15 rounds, in each of which all train for about 0.06 s",
        "Skipped: kernel, mine: why.",
    ):
        assert words in section.text
    assert overview.notes(written) == ["torch: timing of training, graph: no"]
    assert figures.columns in [table[0] for table in page_of(settings).tables]
    assert "## Training time" in Path("results/summary.md").read_text()
    assert written["provenance"]["timing_of_training"]["host"]


@pytest.mark.parametrize(
    ("arrange", "note"),
    [
        pytest.param(TRAINING.unlink, f"{TRAINING}: missing; run the pipeline or its stage first"),
        pytest.param(lambda: timed_training(device="cuda"), f"{TRAINING}: timed on cuda"),
    ],
    ids=["missing", "another device"],
)
def test_without_timing_of_training_the_rest_is_shown(
    settings: Settings, arrange: Callable[[], object], note: str
) -> None:
    arrange()
    written = summarise(dataclasses.replace(settings, device="cpu"))
    fits_the_schema(written)
    assert overview.notes(written) == [f"timing: {note}"]
    assert titles(written) == [COMPARED, ACCURACY, "Findings", "Time against torch"]
    assert written["provenance"]["timing_of_training"] is None


def test_that_nothing_was_to_be_timed_is_noted_once(settings: Settings) -> None:
    written = summarise(dataclasses.replace(settings, timing=False))
    fits_the_schema(written)
    assert overview.notes(written) == ["timing: timing is false in the configuration"]


def test_what_raises_for_all_backends_is_noted_without_one(settings: Settings) -> None:
    of_all = {"engine": None, "seeds": None, "arithmetic": None, "measure": "event_files_seconds"}
    timed_training(measured(None, None, error="no TensorBoard", **of_all))
    written = summarise(settings)
    fits_the_schema(written)
    assert overview.notes(written) == ["timing of training, event files, s: no TensorBoard"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (2.64, "2.6"),
        (0.1, "0.1"),
        (9.96, "10"),
        (99.6, "100"),
        (999.4, "999"),
        (999.6, "1.0e3"),
        (16777214.9, "1.7e7"),
        (5.81e-8, "5.8e-8"),
        (0.0999, "1.0e-1"),
        (0.0, "0.0"),
        ("inf", "inf"),
        ("nan", "nan"),
        (None, "-"),
    ],
)
def test_numbers_are_short(value: float | str | None, words: str) -> None:
    assert number(value) == words
