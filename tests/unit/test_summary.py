"""The summary of what verification and training left, whole or not; the files are written here."""

import csv
import dataclasses
import math
import re
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
from opproof.summary import tables
from opproof.summary.collect import collect
from opproof.summary.interval import mean_with_interval

VERIFY = Path("results/verify/mine.json")
BLOCKS = (Path("results/train/mine/0/block.json"), Path("results/train/mine/1/block.json"))
SEEDS = (3, 17, 29)
ACCURACY = {3: 98.1, 17: 98.4, 29: 97.9}
REGIONS = ("[0, 12]", "[-12, -5]")
NASTY = 'error: a<b> & "c" | *d* :x: [red]e[/red] torch::x::f &lt; </li>'
DAMAGED = "damaged: it does not have the digest written in it; delete it and run the pipeline again"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings whose runs, three of torch and three of mine in two blocks, all went well."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
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
    return settings


def leave(settings: Settings, name: str) -> None:
    """Leave what verification and training do."""
    verified(name)
    for number, seeds in enumerate(settings.blocks()):
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
        artifact.write_json(Path(f"results/train/{name}/{number}/block.json"), record)


def verified(name: str, **changes: Any) -> None:
    errors = {region: {"absolute": 1e-7, "relative": 1e-6, "ulp": 1.5} for region in REGIONS}
    by_direction = {"max_absolute": 1e-7, "regions": errors}
    record = {
        "backend": name,
        "verdict": "pass",
        "expected": "pass",
        "expectation": None,
        "reasons": [],
        "gates": {"usable": "pass"},
        "device": "cpu",
        "gradient_mse": 1e-17,
        "accuracy": {"float32": {"forward": by_direction, "backward": by_direction}},
        "baseline_accuracy": {},
    }
    artifact.write_json(Path(f"results/verify/{name}.json"), {**record, **changes})


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


def refused(reason: str) -> None:
    verified("mine", verdict="fail", reasons=[reason], accuracy={})
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
    row = tables.rows(written)[1]
    assert (row["verification"], row["seeds"]) == (state.verification, f"{state.ok}/3")
    assert tables.notes(written) == [f"mine: {note}" for note in state.notes]


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
    table = [list(row.values()) for row in tables.rows(written)]
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown[2:4]] == table
    assert [re.split(r"\s{2,}", line) for line in terminal[table_at : table_at + 2]] == table
    assert page.tables[0][1:] == table

    notes, caption = tables.notes(written), tables.caption(written)
    assert markdown[5:] == [*(f"- {note}" for note in notes), "", caption]
    assert terminal[table_at + 2 : -1] == [*notes, caption]
    assert page.items == notes
    assert page.captions[0] == caption

    with Path("results/summary.csv").open(newline="") as file:
        figures = list(csv.DictReader(file))
    for backend, figure in zip(written["results"]["backends"], figures, strict=True):
        name, verification = backend["name"], backend["verification"]
        accuracy = backend["accuracy"] or dict.fromkeys(("mean", "low", "high"))
        assert figure == {
            "backend": name,
            "verdict": verification["verdict"],
            "expected_verdict": verification["expected"],
            "accuracy_mean_percent": in_csv(accuracy["mean"]),
            "accuracy_low": in_csv(accuracy["low"]),
            "accuracy_high": in_csv(accuracy["high"]),
            "seeds_ok": str(backend["seeds_ok"]),
            "seeds_planned": "3",
            "seconds_per_epoch": in_csv(written["measurements"][name]["seconds_per_epoch"]),
            "notes": "; ".join(n.partition(": ")[2] for n in notes if n.startswith(f"{name}: ")),
        }


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
    row = tables.rows(summarise(settings))[1]
    assert [row[key] for key in ("accuracy", "interval", "seeds", "time")] == words


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
    second = collect(settings)
    fits_the_schema(second)
    assert second["results"] == first["results"]
    assert second["measurements"]["mine"] == {
        "seconds_per_epoch": 99.0,
        "hardware": ["X"],
        "gpu": [gpu, gpu],
    }
    assert {"backend": "mine", "block": 1, **job} in second["provenance"]["jobs"]
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
    verified(name, verdict="fail", reasons=[NASTY])
    page = page_of(settings)
    assert page.tags.isdisjoint({"a", "b"})
    assert page.tables[0][-1][0] == name
    assert page.tables[1][-1][0] == name
    assert page.tables[2][-1] == [name, "29", "0.250000", "90.00", NASTY]
    assert page.items == [f"{name}: {NASTY}", f"{name}: seed 29: {NASTY}"]


def test_page_lists_errors_and_runs(settings: Settings) -> None:
    verified("torch", verdict="fail", reasons=["usable: no"], accuracy={})
    _, errors, runs, _ = page_of(settings).tables
    assert errors == [
        ["backend", "direction", "max. absolute", *REGIONS],
        ["mine", "forward", "1e-07", "1.5", "1.5"],
        ["mine", "backward", "1e-07", "1.5", "1.5"],
    ]
    assert runs[0] == ["backend", "seed", "average loss", "accuracy, %", "failure"]
    assert runs[1] == ["torch", "3", "0.128000", "98.10", "-"]
    assert [row[:2] for row in runs[1:]] == [
        [name, str(seed)] for name in ("torch", "mine") for seed in SEEDS
    ]


def test_page_of_errors_that_are_infinite(settings: Settings) -> None:
    error = {"max_absolute": "inf", "regions": {region: {"ulp": "inf"} for region in REGIONS}}
    verified("mine", verdict="fail", reasons=["x"], accuracy={"float32": {"forward": error}})
    assert page_of(settings).tables[1][-1] == ["mine", "forward", "inf", "inf", "inf"]


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
    assert tables.caption(written) in shown
    assert f"Report: {Path('results/report.html').absolute()}\n" in shown
    assert before == {path: path.stat().st_mtime_ns for path in Path("results").rglob("*")}


def test_show_without_a_summary(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["summary", "--show", "--config", str(settings.frozen_path)]) == 2
    assert capsys.readouterr().err == (
        "opproof summary: results/summary.json: missing; run the pipeline or its stage first\n"
    )


def test_nothing_is_cut_off_in_80_columns(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = dataclasses.replace(settings.backends[1], name="my_gelu_with_a_fused_bias")
    leave(settings, mine.name)
    monkeypatch.setenv("COLUMNS", "80")  # as a log has them
    summarise(dataclasses.replace(settings, backends=(mine,)))
    assert "…" not in capsys.readouterr().out


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
