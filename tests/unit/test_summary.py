"""The summary of what verification, training and timing left, whole or not, in all formats."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy import stats

from opproof import __main__, artifact, config
from opproof.settings import Settings
from opproof.summary import formats, overall, overview, page
from opproof.summary.collect import collect
from opproof.summary.headlines import headlines
from opproof.summary.interval import mean_with_interval
from opproof.summary.reproduction import configuration
from tests.unit.summaries import (
    BLOCKS,
    DAMAGED,
    NASTY,
    SEEDS,
    TIMING,
    TRAINING,
    VERIFY,
    Page,
    all_blocks,
    edit,
    errors,
    fits_the_schema,
    flip,
    in_csv_file,
    leave,
    page_of,
    raised,
    refused,
    row,
    run,
    settings,
    summarise,
    timed,
    unusable,
    verified,
)
from tests.unit.test_settings import EVERY_KEY

__all__ = ["settings"]


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
    short = [list(row.values()) for row in overview.rows(written)]
    assert [re.split(r"\s{2,}", line) for line in terminal[table_at : table_at + 2]] == short
    whole, verdicts = overall.table(written), headlines(written)
    assert markdown[:3] == [*(f"- **{name}**: {verdict}" for name, verdict in verdicts), ""]
    assert cells_of(markdown[5:7]) == whole.rows
    assert page.tables[0] == [whole.columns, *whole.rows]

    notes, subject = overview.notes(written), overview.subject(written)
    described = f"{subject} {whole.caption}"
    assert markdown[8 : 10 + len(notes)] == [*(f"- {note}" for note in notes), "", described]
    assert terminal[table_at + 2 : -1] == [*notes, overview.caption(written)]
    assert page.items == [*(f"{name}: {verdict}" for name, verdict in verdicts), *notes]
    assert page.captions[0] == whole.caption

    sections = [table for section in formats.sections(written) for table in section.tables]
    rows = [line for line in markdown[11 + len(notes) :] if line.startswith("| ")]
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
            **figures_of_training(backend),
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
        for key in ("mean", "low", "high"):
            found = [in_csv(ratio[key]) for ratio in ratios if ratio]
            figures[f"ratio_{direction}_1e6_{key}"] = found[0] if found else ""
    return figures


def figures_of_training(backend: dict[str, Any]) -> dict[str, str]:
    """Return what a row of the CSV has of the comparison with the baseline."""
    found = backend["comparison"]
    keys = ("mean", "low", "high", "p_equivalent", "p_different", "provable_margin")
    if found is None:
        names = (f"difference_{key}" if len(key) < 5 else key for key in keys)
        empty = ["training_verdict", *names, "churn_first_epoch", "churn_last_epoch", "flags"]
        return dict.fromkeys(empty, "")
    churn = found["churn"].items()
    return {
        "training_verdict": found["verdict"] or "",
        **{f"difference_{key}" if len(key) < 5 else key: in_csv(found[key]) for key in keys},
        **{f"churn_{epoch}": in_csv(one and one["mean"]) for epoch, one in churn},
        "flags": "; ".join(found["flags"]),
    }


def in_csv(number: float | None) -> str:
    return "" if number is None else repr(number)


@pytest.mark.parametrize(
    ("accuracies", "words"),
    [
        pytest.param([], ["-", "-", "0/3", "-"], id="no seed"),
        pytest.param([98.25], ["98.25", "-", "1/3", "1234"], id="one seed"),
        pytest.param([98.25] * 3, ["98.25", "98.25 to 98.25", "3/3", "2"], id="no spread"),
        pytest.param([98, 98.5, 99], ["98.50", "97.26 to 99.74", "3/3", "2"], id="spread"),
    ],
)
def test_figures(settings: Settings, accuracies: list[float], words: list[str]) -> None:
    runs = [
        {**run(seed), "accuracy": [accuracy], "measurements": {"epoch_seconds": [seconds]}}
        for seed, accuracy, seconds in zip(SEEDS, accuracies, (1234.5, 2, 0.3), strict=False)
    ]
    edit(BLOCKS[0], runs=runs)
    edit(BLOCKS[1], runs=runs)
    written = summarise(settings)
    shown, whole = overview.rows(written)[1], overall.table(written)
    time = whole.rows[1][whole.columns.index("s/epoch")]
    assert [*(shown[key] for key in ("accuracy", "interval", "seeds")), time] == words


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
    second = summarise(settings)
    fits_the_schema(second)
    assert second["results"] == first["results"]
    assert second["measurements"]["training"]["mine"] == {
        "seconds_per_epoch": 99.0,
        "hardware": ["X"],
        "gpu": [gpu, gpu],
    }
    assert {"backend": "mine", "block": 1, **job} in second["provenance"]["jobs"]
    assert second["provenance"]["timing"] == job
    assert job not in second["measurements"]["operators"].values()
    assert len(second["provenance"]["jobs"]) == len(first["provenance"]["jobs"]) == 4


def test_page_needs_nothing_else(settings: Settings) -> None:
    summarise(settings)
    text = Path("results/report.html").read_text()
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)  # a name, not an address
    text = re.sub(r'<a href="figures/\w+\.csv">', "", text)  # to follow by hand
    assert not re.search(r"http|src|href|<script|<link|@import|url\((?!#)", text)
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
    (found,) = (table for table in page.tables if table[0][0] == "property")
    assert found == [["property", "F.gelu", name], ["zeros", "yes", f"no: {NASTY}"]]
    assert page.tables[-2][-1] == [name, "29", "0.250000", "90.00", NASTY]
    assert page.items[2:] == [f"{name}: {NASTY}", f"{name}: seed 29: {NASTY}"]


def test_a_page_of_many_runs_does_not_drown_in_them(settings: Settings) -> None:
    def folded(seeds: int) -> list[bool]:
        summarise(dataclasses.replace(settings, seeds=tuple(range(seeds))))
        page = Path("results/report.html").read_text()
        return [mark != "<details open>" for mark in re.findall("<details.*?>", page)]

    assert folded(50) == [False, True]
    assert folded(51) == [True, True], "of two backends: more than 100"


def test_a_page_of_10000_runs_is_below_1_mb_and_shows_what_failed(settings: Settings) -> None:
    whole = collect(settings)
    mine = whole["results"]["backends"][1]
    mine["runs"] = [{**mine["runs"][0], "seed": seed} for seed in range(10_000)]
    mine["runs"][9_000]["failure"] = "the loss became nan"
    whole["provenance"]["jobs"] *= 2_500
    text = page.render(whole, [])
    assert len(text.encode()) < 800_000, "figures need room as well"
    assert "<td>9000</td>" in text
    assert "and 9800 more, in summary.json" in text
    assert "of 2,000 runs" in text


def test_the_gpus_of_many_jobs_are_shown_from_the_lowest_to_the_highest(
    settings: Settings,
) -> None:
    for block, percent, mib in zip(BLOCKS, (93.5, 20.2), (None, 900), strict=True):
        gpu = {"utilisation_percent": percent, "peak_memory_bytes": mib and mib * 2**20}
        edit(block, measurements={"hardware": "X", "gpu": gpu})
    headings, torch, mine = page_of(settings).tables[0]
    first = headings.index("GPU, %")
    assert torch[first : first + 2] == ["-", "-"]
    assert mine[first : first + 2] == ["20 to 94", "900"]


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        pytest.param(
            ["nan"] * 12,
            ["mine: seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more: nan"],
            id="of one reason",
        ),
        pytest.param(
            [f"nan at step {seed}" for seed in range(5)],
            [f"mine: seed {seed}: nan at step {seed}" for seed in range(5)],
            id="of few reasons",
        ),
        pytest.param(
            [f"nan at step {min(seed, 6)}" for seed in range(9)],
            [
                *(f"mine: seed {seed}: nan at step {seed}" for seed in range(5)),
                "mine: 4 seeds more, for 2 reasons more, in summary.json",
            ],
            id="of many reasons",
        ),
    ],
)
def test_of_many_failures_some_are_told(
    settings: Settings, failures: list[str], expected: list[str]
) -> None:
    seeds = tuple(range(len(failures)))
    settings = dataclasses.replace(
        settings, seeds=seeds, seeds_per_job=len(seeds), backends=settings.backends[1:]
    )
    edit(BLOCKS[0], runs=[run(seed, failures[seed]) for seed in seeds])
    assert overview.notes(collect(settings)) == expected


def test_page_lists_runs(settings: Settings) -> None:
    runs = page_of(settings).tables[-2]
    assert runs[0] == ["backend", "seed", "average loss", "accuracy, %", "failure"]
    assert runs[1] == ["torch", "3", "0.128000", "98.10", "-"]
    assert [row[:2] for row in runs[1:]] == [
        [name, str(seed)] for name in ("torch", "mine") for seed in SEEDS
    ]


def test_summary_of_nothing(settings: Settings) -> None:
    for path in (TIMING, TRAINING, *BLOCKS, *Path("results").glob("*/torch/*/*")):
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
        "curves.parquet",
        "figures",
    }


def test_every_figure_is_there_with_its_data(settings: Settings) -> None:
    Path("results/figures").mkdir()
    Path("results/figures/old.svg").touch()
    written = summarise(settings)
    names = {"loss", "accuracy", "differences"}
    beside = {f"figures/{name}.{suffix}" for name in names for suffix in ("svg", "csv")}
    assert beside <= written["files"].keys()
    assert {path.name for path in Path("results/figures").iterdir()} == {
        name.partition("/")[2] for name in written["files"] if name.startswith("figures/")
    }
    page = Path("results/report.html").read_text()
    for name in names:
        assert Path(f"results/figures/{name}.svg").read_text() in page
    assert summarise(settings)["files"] == written["files"], "the same bytes"


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
    [("mine", 100, 1), ("my_gelu_with_a_fused_bias", 100, 2), ("my_gelu_with_a_fused_bias", 80, 3)],
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
        if len(cell) < 8:  # others are wrapped, and stand below each other
            assert cell.replace(" ", "") in shown
    letters = Counter(shown) - Counter("─" * columns)
    cells = (*overview.COLUMNS.values(), *overview.rows(written)[0].values())
    assert letters == Counter("".join("".join(cells).split()))


def test_the_configuration_on_the_page_gives_the_same_settings(settings: Settings) -> None:
    page = page_of(settings)
    assert page.tags >= {"pre", "code"}
    for raw in ({}, EVERY_KEY):
        expected = config.resolve(raw)
        assert config.resolve(yaml.safe_load(configuration(expected))) == expected


def test_a_damaged_control_is_left_out_and_its_run_is_not(settings: Settings) -> None:
    block = Path("results/train/torch/0/block.json")
    first, second = ({**of_run} for of_run in artifact.read_json(block)["runs"])
    edit(block, controls=[first, {**second, "sha256": "0" * 64}])
    written = summarise(settings)
    assert written["results"]["yardsticks"]["torch"]["control"]["seeds"] == 1
    assert overview.notes(written) == []
    assert [backend["seeds_ok"] for backend in written["results"]["backends"]] == [3, 3]
