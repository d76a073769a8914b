"""The summary of what verification, training and timing left; the files are written here."""

import csv
import dataclasses
import math
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from scipy import stats

from opproof import __main__, artifact, config, paths, provenance, summary
from opproof.settings import Settings
from opproof.summary import formats, overview
from opproof.summary.collect import collect
from opproof.summary.interval import mean_with_interval
from opproof.summary.table import number

VERIFY = Path("results/verify/mine.json")
TIMING = Path("results/timing/operators.json")
BLOCKS = (Path("results/train/mine/0/block.json"), Path("results/train/mine/1/block.json"))
SEEDS = (3, 17, 29)
ACCURACY = {3: 98.1, 17: 98.4, 29: 97.9}
REGIONS = ("[0, 12]", "[-12, -5]")
HOLDS = {"holds": True, "detail": "bit by bit"}
NASTY = 'error: a<b> & "c" | *d* :x: [red]e[/red] torch::x::f &lt; </li>'
DAMAGED = "damaged: it does not have the digest written in it; delete it and run the pipeline again"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings whose runs, three of torch and three of mine in two blocks, all went well."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "500")
    settings = config.resolve(
        {
            "backends": ["torch", {"name": "mine", "op": "a:b"}],
            "seeds": [*SEEDS],
            "seeds_per_job": 2,
            "train": {"epochs": 2},
        }
    )
    settings.freeze()
    for backend in settings.backends:
        leave(settings, backend.name)
    timed(row("torch", ratio=None), row("mine"), row("mine", direction="backward", ratio=0.5))
    return settings


def leave(settings: Settings, name: str) -> None:
    """Leave what verification and training do."""
    verified(name)
    for block, seeds in enumerate(settings.blocks()):
        runs = [run(seed) for seed in seeds]
        record = {
            "backend": name,
            "engine": settings.engine,
            "precision": settings.precision,
            "train": dataclasses.asdict(settings.train),
            "not_trained": None,
            "device": "cpu",
            "runs": runs,
            "measurements": {"hardware": "CPU", "gpu": None},
            "provenance": provenance.of_job(),
        }
        artifact.write_json(Path(f"results/train/{name}/{block}/block.json"), record)


def verified(name: str, **changes: Any) -> None:
    """Leave a verdict: 1.5 ULP everywhere, of F.gelu 1.7e7, and one finding."""
    record = {
        "backend": name,
        "verdict": "pass",
        "expected": "pass",
        "expectation": None,
        "reasons": [],
        "gates": {"usable": "pass"},
        "claim": {"max_ulp": None},
        "device": "cpu",
        "thorough": False,
        "gradient_mse": 1e-17,
        "accuracy": {"float32": errors((1.5, 1.5), (1.5, 1.5))},
        "baseline_accuracy": {"float32": errors((5.3, 16777214.9), (2.6, 16.1))},
        "findings": {"zeros": HOLDS},
        "baseline_findings": {"zeros": HOLDS},
    }
    artifact.write_json(Path(f"results/verify/{name}.json"), {**record, **changes})


def errors(
    forward: tuple[float | str, ...], backward: tuple[float | str, ...], absolute: Any = 1.2e-7
) -> dict[str, Any]:
    """Return the errors of a dtype, from those in ULP by region."""
    by_direction = {
        direction: {
            "max_absolute": absolute,
            "regions": {
                region: {"absolute": 1e-7, "relative": 1e-6, "ulp": of_region, "x": 1.0}
                for region, of_region in zip(REGIONS, ulp, strict=True)
            },
        }
        for direction, ulp in (("forward", forward), ("backward", backward))
    }
    by_direction["backward"]["near_root"] = {"absolute": 5.8e-8, "x": -0.75}
    return by_direction


def timed(*rows: dict[str, Any], **changes: Any) -> None:
    """Leave what timing does."""
    record = {
        "stage": "timing operators",
        "device": "cpu",
        "hardware": "CPU, AVX2",
        "threads": 1,
        "torch": "2.14.1",
        "method": {"rounds": 41, "block_seconds": 0.0005, "margin": 0.03, "confidence": 0.95},
        "rows": rows,
        "copy": [],
        "skipped": [],
        "compile_seconds": 1.5,
        "load": {"before": [0.25, 0.5, 0.5], "after": [1.125, 0.5, 0.5], "cores": 8},
        "provenance": provenance.of_job(),
    }
    artifact.write_json(TIMING, {**record, **changes})


def row(backend: str, ratio: float | None = 2.0, **changes: Any) -> dict[str, Any]:
    """Return a row of 1e6 values, forward, with a ratio of an interval half as wide."""
    interval = ratio and {"low": 0.75 * ratio, "median": ratio, "high": 1.25 * ratio}
    return {
        "backend": backend,
        "operation": "activation",
        "shape": [1_000_000],
        "values": "normal",
        "direction": "forward",
        "mode": "allocated",
        "via": "operator",
        "ratio": interval,
        "verdict": "FASTER" if interval else None,
        "ns_per_element": 0.375,
        "cpu_ns_per_element": 0.375,
        "copy_percent": 88.0,
        "rounds": 41,
        "error": None,
        **changes,
    }


def raised(backend: str, error: str, **changes: Any) -> dict[str, Any]:
    return row(backend, None, error=error, mode=None, via=None, ns_per_element=None, **changes)


def run(seed: int, failure: str | None = None) -> dict[str, Any]:
    """Return a run of two epochs, or of one if it failed."""
    epochs = 1 if failure else 2
    return {
        "seed": seed,
        "failure": failure,
        "average_loss": [0.25, 0.125 + seed / 1000][:epochs],
        "accuracy": [90.0, ACCURACY.get(seed, 50.0)][:epochs],
        "file": f"seed-{seed}.npz",
        "sha256": "0" * 64,
        "measurements": {"epoch_seconds": [seed / 10, seed / 10 + 1]},
    }


def edit(path: Path, **changes: Any) -> None:
    artifact.write_json(path, {**artifact.read_json(path), **changes})


def all_blocks(**changes: Any) -> None:
    for block in BLOCKS:
        edit(block, **changes)


def flip(path: Path) -> None:
    content = path.read_text()
    path.write_text(content.replace("fp32", "fp31").replace('"pass"', '"fail"'))


def unusable(backend: str) -> dict[str, Any]:
    return raised(backend, "does not compile: a.cpp:3", shape=None, values=None, direction=None)


def refused(reason: str) -> None:
    verified("mine", verdict="fail", reasons=[reason], accuracy={}, findings={})
    all_blocks(not_trained="refused by verification", runs=[], device=None, measurements={})


@dataclasses.dataclass(frozen=True)
class State:
    """What there is of the backend mine, and what a reader must see of it."""

    name: str
    arrange: Callable[[], object]
    verification: str = "pass"
    ok: int = 3
    notes: tuple[str, ...] = ()


STATES = [
    State("all well", lambda: None),
    State(
        "no verdict",
        VERIFY.unlink,
        verification="MISSING",
        notes=(f"{VERIFY}: missing; run the pipeline or its stage first",),
    ),
    State(
        "damaged verdict",
        lambda: flip(VERIFY),
        verification="MISSING",
        notes=(f"{VERIFY}: {DAMAGED}",),
    ),
    State(
        "refused",
        lambda: refused("forward float32: off by 0.1"),
        verification="REFUSED",
        ok=0,
        notes=("forward float32: off by 0.1", "seeds 3, 17, 29: refused by verification"),
    ),
    State(
        "refused and not timed either",
        lambda: (refused("usable: does not compile: a.cpp:3"), timed(unusable("mine"))),
        verification="REFUSED",
        ok=0,
        notes=("usable: does not compile: a.cpp:3", "seeds 3, 17, 29: refused by verification"),
    ),
    State(
        "raises in timing",
        lambda: timed(row("mine"), *[raised("mine", NASTY, direction="both")] * 2),
        notes=(f"timing, activation: {NASTY} (2 times)",),
    ),
    State(
        "expected to fail",
        lambda: verified("mine", verdict="fail", expected="fail", expectation="a control"),
        verification="fails as expected",
        notes=("expected to fail: a control",),
    ),
    State(
        "unexpected pass",
        lambda: verified("mine", expected="fail", expectation="a control"),
        verification="PASSES unexpectedly",
        notes=("expected to fail",),
    ),
    State(
        "block missing",
        BLOCKS[0].unlink,
        ok=1,
        notes=(f"seeds 3, 17: {BLOCKS[0]}: missing; run the pipeline or its stage first",),
    ),
    State(
        "all blocks missing",
        lambda: [block.unlink() for block in BLOCKS],
        ok=0,
        notes=(
            f"seeds 3, 17: {BLOCKS[0]}: missing; run the pipeline or its stage first",
            f"seed 29: {BLOCKS[1]}: missing; run the pipeline or its stage first",
        ),
    ),
    State(
        "block cut short",
        lambda: BLOCKS[1].write_text(BLOCKS[1].read_text()[:-9]),
        ok=2,
        notes=(
            f"seed 29: {BLOCKS[1]}: damaged: it is not whole; delete it and run the pipeline again",
        ),
    ),
    State(
        "byte of a block flipped",
        lambda: flip(BLOCKS[1]),
        ok=2,
        notes=(f"seed 29: {BLOCKS[1]}: {DAMAGED}",),
    ),
    *(
        State(
            f"block of another {key}",
            lambda key=key, value=value: edit(BLOCKS[0], **{key: value}),
            ok=1,
            notes=(f"seeds 3, 17: {BLOCKS[0]}: trained with other settings",),
        )
        for key, value in {
            "engine": "reference",
            "precision": "tf32",
            "train": {"epochs": 2, "batch_size": 64, "learning_rate": 0.004},
        }.items()
    ),
    State(
        "block of other seeds",
        lambda: edit(BLOCKS[0], runs=[run(3), run(18)]),
        ok=2,
        notes=("seed 17: its job did not train it",),
    ),
    State(
        "one seed failed",
        lambda: edit(BLOCKS[0], runs=[run(3), run(17, "the loss became nan at step 4")]),
        ok=2,
        notes=("seed 17: the loss became nan at step 4",),
    ),
    State(
        "all seeds failed, two alike",
        lambda: [
            edit(BLOCKS[0], runs=[run(3, NASTY), run(17, "another")]),
            edit(BLOCKS[1], runs=[run(29, NASTY)]),
        ],
        ok=0,
        notes=(f"seeds 3, 29: {NASTY}", "seed 17: another"),
    ),
    State(
        "not usable",
        lambda: all_blocks(not_trained="op a:b: ModuleNotFoundError", runs=[], device=None),
        ok=0,
        notes=("seeds 3, 17, 29: op a:b: ModuleNotFoundError",),
    ),
]
each_state = pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)


@each_state
def test_what_there_is_is_shown_in_words(settings: Settings, state: State) -> None:
    state.arrange()
    written = summarise(settings)
    fits_the_schema(written)
    torch, mine = written["results"]["backends"]
    assert (torch["seeds_ok"], torch["seeds_planned"]) == (3, 3), "the other is not concerned"
    assert (mine["seeds_ok"], mine["seeds_planned"]) == (state.ok, 3)
    assert [run["seed"] for run in mine["runs"]] == [*SEEDS], "never fewer, whatever happened"
    good = [run["accuracy"][-1] for run in mine["runs"] if run["failure"] is None]
    assert len(good) == state.ok
    assert mine["accuracy"] == mean_with_interval(good)
    shown = overview.rows(written)[1]
    assert (shown["verdict"], shown["seeds"]) == (state.verification, f"{state.ok}/3")
    assert overview.notes(written) == [f"mine: {note}" for note in state.notes]


@each_state
def test_formats_agree(
    settings: Settings, capsys: pytest.CaptureFixture[str], state: State
) -> None:
    state.arrange()
    written = summarise(settings)
    terminal = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    table_at = next(at for at, line in enumerate(terminal, start=1) if set(line) == {"─"})
    markdown = Path("results/summary.md").read_text().splitlines()
    page = Page(Path("results/report.html").read_text())
    table = [list(row.values()) for row in overview.rows(written)]
    assert cells_of(markdown[2:4]) == table
    assert [re.split(r"\s{2,}", line) for line in terminal[table_at : table_at + 2]] == table
    assert page.tables[0][1:] == table

    notes, caption = overview.notes(written), overview.caption(written)
    assert markdown[5 : 7 + len(notes)] == [*(f"- {note}" for note in notes), "", caption]
    assert terminal[table_at + 2 : -1] == [*notes, caption]
    assert page.items == notes
    assert page.captions[0] == caption

    sections = [table for section in formats.sections(written) for table in section.tables]
    rows = [line for line in markdown[8 + len(notes) :] if line.startswith("| ")]
    assert cells_of(rows) == [
        cells
        for table in sections
        for cells in (table.columns, ["---"] * len(table.columns), *table.rows)
    ]
    assert page.tables[1:-2] == [[table.columns, *table.rows] for table in sections]
    assert page.captions[1:-2] == [table.caption for table in sections]

    for backend, figure in zip(written["results"]["backends"], in_csv_file(), strict=True):
        name, verification = backend["name"], backend["verification"]
        accuracy = backend["accuracy"] or dict.fromkeys(("mean", "low", "high"))
        assert figure == {
            "backend": name,
            "verdict": verification["verdict"],
            "expected_verdict": verification["expected"],
            **figures_of_sections(written, backend),
            "accuracy_mean_percent": in_csv(accuracy["mean"]),
            "accuracy_low": in_csv(accuracy["low"]),
            "accuracy_high": in_csv(accuracy["high"]),
            "seeds_ok": str(backend["seeds_ok"]),
            "seeds_planned": "3",
            "seconds_per_epoch": in_csv(
                written["measurements"]["training"][name]["seconds_per_epoch"]
            ),
            "notes": "; ".join(n.partition(": ")[2] for n in notes if n.startswith(f"{name}: ")),
        }


def cells_of(lines: list[str]) -> list[list[str]]:
    """Return the cells of rows in Markdown."""
    split = (re.split(r"(?<!\\)\|", line)[1:-1] for line in lines)
    return [[cell.strip().replace(r"\|", "|") for cell in cells] for cells in split]


def figures_of_sections(written: dict[str, Any], backend: dict[str, Any]) -> dict[str, str]:
    """Return what a row of the CSV has of verification and timing."""
    verified, rows = backend["verification"], written["measurements"]["operators"].get("rows", [])
    ulp = "1.5" if verified.get("accuracy") else ""
    figures = {"ulp_forward": ulp, "ulp_backward": ulp, "ulp_claimed": ""}
    figures["findings_not_held"] = "0" if verified.get("findings") else ""
    for direction in ("forward", "backward"):
        ratios = [
            row["ratio"]
            for row in rows
            if (row["backend"], row["direction"]) == (backend["name"], direction)
        ]
        for key in ("median", "low", "high"):
            found = [in_csv(ratio[key]) for ratio in ratios if ratio]
            figures[f"ratio_{direction}_1e6_{key}"] = found[0] if found else ""
    return figures


def in_csv(number: float | None) -> str:
    return "" if number is None else repr(number)


@pytest.mark.parametrize(
    ("accuracies", "words"),
    [
        pytest.param([], ["-", "-", "0/3", "-"], id="no seed"),
        pytest.param([98.25], ["98.25", "-", "1/3", "0.3"], id="one seed"),
        pytest.param([98.25] * 3, ["98.25", "98.25 to 98.25", "3/3", "2"], id="no spread"),
        pytest.param([98, 98.5, 99], ["98.50", "97.26 to 99.74", "3/3", "2"], id="spread"),
    ],
)
def test_figures(settings: Settings, accuracies: list[float], words: list[str]) -> None:
    runs = [
        {**run(seed), "accuracy": [accuracy], "measurements": {"epoch_seconds": [seconds]}}
        for seed, accuracy, seconds in zip(SEEDS, accuracies, (0.3, 2, 9.04), strict=False)
    ]
    edit(BLOCKS[0], runs=runs)
    edit(BLOCKS[1], runs=runs)
    shown = overview.rows(summarise(settings))[1]
    assert [shown[key] for key in ("accuracy", "interval", "seeds", "time")] == words


@pytest.mark.parametrize(
    "values",
    [[98.9, 98.91], [98.1, 98.4, 97.9], [0.0, 100.0], [99.0] * 9 + [99.01], [11.35, 98.9, 98.88]],
    ids=str,
)
def test_interval_is_students(values: list[float]) -> None:
    found = mean_with_interval(values)
    count = len(values)
    mean = sum(values) / count
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    half = stats.t.ppf(0.975, count - 1) * deviation / math.sqrt(count)
    assert found
    assert found["mean"] == pytest.approx(mean, rel=1e-14)
    assert found["low"] == pytest.approx(mean - half, rel=1e-9)
    assert found["high"] == pytest.approx(mean + half, rel=1e-9)
    assert found["confidence"] == 0.95


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([98.9], {"mean": 98.9, "low": None, "high": None, "confidence": 0.95}),
        ([98.25] * 3, {"mean": 98.25, "low": 98.25, "high": 98.25, "confidence": 0.95}),
    ],
    ids=["no seed", "one seed", "no spread"],
)
def test_interval_without_spread(values: list[float], expected: dict[str, Any] | None) -> None:
    assert mean_with_interval(values) == expected


def test_results_know_neither_clock_nor_host(settings: Settings) -> None:
    first = collect(settings)
    job = {"host": "another", "machine": "m", "started": "2020-01-01", "environment": {"A": "b"}}
    slower = [{**run(seed), "measurements": {"epoch_seconds": [99.0]}} for seed in SEEDS]
    gpu = {"utilisation_percent": 50.0, "peak_memory_bytes": 1}
    for block in BLOCKS:
        edit(block, provenance=job, runs=slower, measurements={"hardware": "X", "gpu": gpu})
    timed(row("mine", ratio=0.1), hardware="X", provenance=job)
    second = collect(settings)
    fits_the_schema(second)
    assert second["results"] == first["results"]
    assert second["measurements"]["training"]["mine"] == {
        "seconds_per_epoch": 99.0,
        "hardware": ["X"],
        "gpu": [gpu, gpu],
    }
    assert {"backend": "mine", "block": 1, **job} in second["provenance"]["jobs"]
    assert second["provenance"]["timing"] == job
    assert len(second["provenance"]["jobs"]) == len(first["provenance"]["jobs"]) == 4


def test_page_needs_nothing_else(settings: Settings) -> None:
    summarise(settings)
    text = Path("results/report.html").read_text()
    assert not re.search(r"http|src|href|<script|<link|@import|url\(", text)
    assert page_of(settings).tags.isdisjoint({"script", "link", "img", "iframe", "object"})


def test_page_escapes(settings: Settings) -> None:
    name = '<b>a&amp;"'
    mine = dataclasses.replace(settings.backends[1], name=name)
    settings = dataclasses.replace(settings, backends=(settings.backends[0], mine))
    leave(settings, name)
    edit(Path(f"results/train/{name}/1/block.json"), runs=[run(29, NASTY)])
    wrong = {"zeros": {"holds": False, "detail": NASTY}}
    verified(name, verdict="fail", reasons=[NASTY], findings=wrong)
    page = page_of(settings)
    assert page.tags.isdisjoint({"a", "b"})
    assert page.tables[0][-1][0] == name
    assert page.tables[1][-1][0] == name
    assert page.tables[2] == [["property", "F.gelu", name], ["zeros", "yes", f"no: {NASTY}"]]
    assert page.tables[-2][-1] == [name, "29", "0.250000", "90.00", NASTY]
    assert page.items == [f"{name}: {NASTY}", f"{name}: seed 29: {NASTY}"]


def test_page_lists_runs(settings: Settings) -> None:
    runs = page_of(settings).tables[-2]
    assert runs[0] == ["backend", "seed", "average loss", "accuracy, %", "failure"]
    assert runs[1] == ["torch", "3", "0.128000", "98.10", "-"]
    assert [row[:2] for row in runs[1:]] == [
        [name, str(seed)] for name in ("torch", "mine") for seed in SEEDS
    ]


F_GELU = ["F.gelu", "5.3 / 2.6", "1.7e7 / 16", "1.7e7 / 16", "5.8e-8", "1.2e-7 / 1.2e-7", "-"]


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
    (table,) = formats.sections(written)[0].tables
    columns = ["backend", *REGIONS, "worst", "near the root", "largest absolute", "claimed"]
    assert table.columns == columns
    assert table.rows == [F_GELU, ["mine", *words]]
    assert overview.rows(written)[-1]["ulp"] == words[2].replace(" ", "")


def test_what_could_not_be_used_has_no_errors(settings: Settings) -> None:
    refused("usable: no")
    written = summarise(settings)
    assert formats.sections(written)[0].tables[0].rows == [F_GELU]
    assert [shown["ulp"] for shown in overview.rows(written)] == ["1.5/1.5", "-"]


def test_findings_of_all_beside_f_gelu(settings: Settings) -> None:
    no, silent = {"holds": False, "detail": "a|b"}, {"holds": False, "detail": None}
    unknown = {"holds": None, "detail": "no GPU"}
    both = {"zeros": HOLDS, "monotone": no}
    verified("torch", findings=both, baseline_findings=both)
    verified("mine", findings={"zeros": silent, "monotone": HOLDS, "vmap": unknown})
    written = summarise(settings)
    (table,) = formats.sections(written)[1].tables
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
        row("mine", 6.0, direction="both", **pooled),
        skipped=[{"operation": "activation", "shape": [10], "values": "normal", "reason": "why"}],
    )
    section = formats.sections(summarise(settings))[2]
    one = "activation, pool and activation in one, against torch's three: "
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
    assert len(formats.sections(written)) == 2
    assert written["provenance"]["timing"] is None


def test_errors_of_torch_compile_are_noted(settings: Settings) -> None:
    timed(row("mine"), raised("compile", "no compiler"))
    notes = overview.notes(summarise(settings))
    assert notes == ["compile: timing, activation: no compiler"]


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


def test_summary_of_nothing(settings: Settings) -> None:
    for path in (TIMING, *BLOCKS, *Path("results").glob("*/torch/*/*")):
        path.unlink()
    for backend in settings.backends:
        Path(f"results/verify/{backend.name}.json").unlink()
    written = summarise(settings, "--partial")
    fits_the_schema(written)
    assert formats.sections(written) == []


def test_partial_summary_leaves_the_whole_one(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    summarise(settings)
    before = {path: path.read_bytes() for path in Path("results").iterdir() if path.is_file()}
    BLOCKS[0].unlink()
    capsys.readouterr()
    assert summarise(settings, "--partial")["results"]["backends"][1]["seeds_ok"] == 1
    report = Path("results/partial-summary/report.html").absolute()
    assert f"Report: {report}\n" in capsys.readouterr().out
    assert before == {
        path: path.read_bytes() for path in Path("results").iterdir() if path.is_file()
    }
    assert {path.name for path in report.parent.iterdir()} == {
        "summary.json",
        "summary.csv",
        "summary.md",
        "report.html",
    }


def test_show_writes_nothing(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    written = summarise(settings)
    BLOCKS[0].unlink()
    before = {path: path.stat().st_mtime_ns for path in Path("results").rglob("*")}
    assert __main__.main(["summary", "--show", "--config", str(settings.frozen_path)]) == 0
    shown = capsys.readouterr().out
    assert overview.caption(written) in shown
    assert f"Report: {Path('results/report.html').absolute()}\n" in shown
    assert before == {path: path.stat().st_mtime_ns for path in Path("results").rglob("*")}


def test_show_without_a_summary(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["summary", "--show", "--config", str(settings.frozen_path)]) == 2
    assert capsys.readouterr().err == (
        "opproof summary: results/summary.json: missing; run the pipeline or its stage first\n"
    )


@pytest.mark.parametrize(
    ("name", "columns", "lines"),
    [("mine", 100, 1), ("my_gelu_with_a_fused_bias", 100, 2), ("my_gelu_with_a_fused_bias", 80, 4)],
)
def test_nothing_is_cut_off(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    columns: int,
    lines: int,
) -> None:
    """The widest cells fit into 100 columns, a line a backend, and in a log's 80 are wrapped."""
    mine = dataclasses.replace(settings.backends[1], name=name)
    leave(settings, name)
    worst = errors((1.0, 16777214.9), (16777214.9, 1.0))
    verified(name, verdict="fail", expected="fail", accuracy={"float32": worst})
    timed(row(name, 0.17), row(name, 10.5, direction="backward"))
    monkeypatch.setenv("COLUMNS", str(columns))
    written = summarise(dataclasses.replace(settings, backends=(mine,)))
    printed = capsys.readouterr().out.splitlines()
    assert max(map(len, printed[:-1])) <= columns
    header = next(at for at, line in enumerate(printed) if set(line) == {"─"})
    caption = next(at for at, line in enumerate(printed) if line.startswith("LeNet-5"))
    assert caption - header - 1 == lines
    shown = "".join("".join(printed[:caption]).split())
    for cell in (*overview.COLUMNS.values(), *overview.rows(written)[0].values()):
        if len(cell) < 12:  # others are wrapped, and stand below each other
            assert cell.replace(" ", "") in shown
    letters = Counter(shown) - Counter("─" * columns)
    cells = (*overview.COLUMNS.values(), *overview.rows(written)[0].values())
    assert letters == Counter("".join("".join(cells).split()))


class Page(HTMLParser):
    """The parts of a page; fails where tags are not closed in the order that they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.tables: list[list[list[str]]] = []
        self.items: list[str] = []
        self.captions: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag != "meta":
            self.open.append(tag)
        parts: dict[str, tuple[list[Any], Any]] = {
            "table": (self.tables, []),
            "li": (self.items, ""),
            "caption": (self.captions, ""),
        }
        if tag in parts:
            part, empty = parts[tag]
            part.append(empty)
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        last = self.open[-1] if self.open else ""
        into = {"li": self.items, "caption": self.captions}.get(last)
        if last in ("td", "th"):
            into = self.tables[-1][-1]
        if into is not None:
            into[-1] += data


def in_csv_file() -> list[dict[str, str]]:
    with Path("results/summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def page_of(settings: Settings) -> Page:
    return Page(summary.page.render(collect(settings)))


def summarise(settings: Settings, *options: str) -> dict[str, Any]:
    """Write the summary and show it; return what summary.json holds."""
    settings.freeze()
    assert __main__.main(["summary", "--config", str(settings.frozen_path), *options]) == 0
    return artifact.read_json(
        Path("results/partial-summary" if options else "results", "summary.json")
    )


def fits_the_schema(written: dict[str, Any]) -> None:
    schema = yaml.safe_load((paths.SCHEMAS / "summary.schema.yaml").read_text())
    jsonschema.Draft202012Validator(schema).validate(written)
