import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opproof import __main__, artifact, config, provenance
from tests.unit.summaries import measured

Summary = dict[str, Any]
EPOCHS = 2
CHURN = {
    "first_epoch": {"mean": 0.5, "low": 0.0, "high": 1.0, "confidence": 0.95},
    "last_epoch": None,
}
BESIDE = ("summary.csv", "summary.md", "report.html", "curves.parquet")  # each holds its name


@pytest.fixture
def good() -> Summary:
    """A summary of two backends and two seeds in which nothing is wrong."""
    settings = config.resolve({"backends": ["torch", "tanh"], "seeds": [3, 17]})
    return {
        "format": 1,
        "results": {
            "engine": "graph",
            "precision": "fp32",
            "train": {"epochs": EPOCHS, "batch_size": 64, "learning_rate": 0.003},
            "seeds": [3, 17],
            "yardsticks": {
                "torch": {
                    "control": {"seeds": 2, "churn": CHURN, "divergence": {"1": 0.0, "10": 2e-7}},
                    "another_seed": CHURN,
                },
            },
            "backends": [
                backend("torch", "pass"),
                {**backend("tanh", "fail"), "comparison": comparison()},
            ],
        },
        "measurements": {
            "training": {
                name: {"seconds_per_epoch": 2.5, "hardware": ["CPU"], "gpu": []}
                for name in ("torch", "tanh")
            },
            "operators": {
                "device": "cpu",
                "hardware": "CPU",
                "threads": 1,
                "torch": "2.14.1",
                "method": {
                    "rounds": 41,
                    "block_seconds": 0.0005,
                    "margin": 0.03,
                    "confidence": 0.95,
                },
                "rows": [row("torch"), row("tanh")],
                "skipped": [],
                "load": {"before": [0.0] * 3, "after": [1.0] * 3, "cores": 2},
            },
            "training_time": {
                "device": "cpu",
                "hardware": "CPU",
                "threads": 1,
                "torch": "2.14.1",
                "precision": "fp32",
                "train": {"epochs": EPOCHS, "batch_size": 64, "learning_rate": 0.003},
                "steps": 938 * EPOCHS,
                "method": {
                    "rounds": 15,
                    "stretch_seconds": 0.06,
                    "margin": 0.03,
                    "confidence": 0.95,
                },
                "measures": {"step_seconds": "Of a step."},
                "rows": [measured("torch"), measured("tanh")],
                "marks": [],
                "skipped": [],
                "load": {"before": [0.0] * 3, "after": [1.0] * 3, "cores": 2},
            },
        },
        "provenance": {
            **provenance.of_run(),
            "configuration": dataclasses.asdict(settings),
            "jobs": [],
            "timing": provenance.of_job(),
            "timing_of_training": provenance.of_job(),
        },
        "files": {name: hashlib.sha256(name.encode()).hexdigest() for name in BESIDE},
    }


def backend(name: str, verdict: str) -> Summary:
    return {
        "name": name,
        "op": f"F.{name}",
        "reference": "F.gelu",
        "baseline": "torch",
        "verification": {"verdict": verdict, "expected": verdict, "reasons": []},
        "devices": ["cpu"],
        "seeds_planned": 2,
        "seeds_ok": 2,
        "accuracy": {"mean": 98.25, "low": 98.0, "high": 98.5, "confidence": 0.95},
        "comparison": None,
        "runs": [run(3), run(17)],
    }


def comparison(**changes: Any) -> Summary:
    return {
        "baseline": "torch",
        "seeds": 2,
        "margin": 0.1,
        "verdict": "INCONCLUSIVE",
        "differences": [{"seed": seed, "difference": 0.01 * seed} for seed in (3, 17)],
        "mean": 0.1,
        "low": -0.5,
        "high": 0.7,
        "p_equivalent": 0.5,
        "p_different": 0.5,
        "provable_margin": 0.6,
        "seeds_needed": 12,
        "churn": CHURN,
        "divergence": {"1": 0.0, "10": 1e-5},
        "flags": [],
        **changes,
    }


def run(seed: int) -> Summary:
    return {
        "seed": seed,
        "failure": None,
        "average_loss": [0.5] * EPOCHS,
        "accuracy": [98.25] * EPOCHS,
        "sha256": "0" * 64,
    }


def row(name: str, error: str | None = None) -> Summary:
    ratio = None if error or name == "torch" else {"low": 0.5, "mean": 0.75, "high": 1.0}
    return {
        "backend": name,
        "baseline": "torch",
        "operation": "activation",
        "shape": [64],
        "values": "normal",
        "direction": "forward",
        "mode": None if error else "allocated",
        "via": None if error else "operator",
        "ratio": ratio,
        "verdict": "UNCLEAR" if ratio else None,
        "ratios": ratio and [0.5, 1.0],
        "outliers": ratio and {"mild": 0, "severe": 0},
        "ns_per_element": None if error else 0.5,
        "copy_percent": None if error else 88.0,
        "marks": [],
        "error": error,
    }


def failed(reason: str) -> Summary:
    return {**run(17), "failure": reason, "average_loss": [], "accuracy": []}


def torch(summary: Summary) -> Summary:
    return summary["results"]["backends"][0]


def tanh(summary: Summary) -> Summary:
    return summary["results"]["backends"][1]


def verdict(summary: Summary, said: str, *reasons: str) -> None:
    torch(summary)["verification"] |= {"verdict": said, "reasons": [*reasons]}


def trained(summary: Summary, **changes: Any) -> None:
    """Have tanh pass verification, and its training come to something else."""
    tanh(summary)["verification"].update(verdict="pass", expected="pass")
    tanh(summary).update(comparison=comparison(**changes))


def operators(summary: Summary) -> Summary:
    return summary["measurements"]["operators"]


def training_time(summary: Summary) -> Summary:
    return summary["measurements"]["training_time"]


def with_runs(summary: Summary, *runs: Summary, ok: int = 2) -> None:
    torch(summary).update(runs=[*runs], seeds_ok=ok)


SPOILT: dict[str, tuple[Callable[[Summary], object], list[str]]] = {
    "refused": (
        lambda s: verdict(s, "fail", "forward float32: off by 0.1", "gradcheck: no"),
        ["torch: verification says fail, expected was pass", "  forward float32: off by 0.1"],
    ),
    "unexpected pass": (
        lambda s: tanh(s)["verification"].update(verdict="pass"),
        ["tanh: verification says pass, expected was fail"],
    ),
    "verification missing": (
        lambda s: verdict(s, "missing", "results/verify/torch.json: missing"),
        ["torch: verification says missing, expected was pass", "torch.json: missing"],
    ),
    "failed seed": (
        lambda s: with_runs(s, run(3), failed("the loss became nan at step 4"), ok=1),
        ["torch: only 1 of 2 seeds ended well", "torch: seed 17: the loss became nan at step 4"],
    ),
    "not trained": (
        lambda s: with_runs(s, {**failed("not trained"), "seed": 3}, failed("not trained"), ok=0),
        ["torch: only 0 of 2 seeds ended well", "torch: seed 3: not trained", "torch: seed 17: "],
    ),
    "seed missing": (
        lambda s: with_runs(s, run(3)),
        ["torch: its runs are not one for each seed of the plan"],
    ),
    "seed twice": (
        lambda s: with_runs(s, run(3), run(17), run(17)),
        ["torch: its runs are not one for each seed of the plan"],
    ),
    "another seed": (
        lambda s: with_runs(s, run(3), run(18)),
        ["torch: its runs are not one for each seed of the plan"],
    ),
    "another accuracy": (
        lambda s: trained(s, verdict="DIFFERENT"),
        ["tanh: its accuracy is DIFFERENT from torch's\n"],
    ),
    "flagged": (
        lambda s: trained(s, verdict="EQUIVALENT", flags=["the loss at step 10 differs", "more"]),
        ["tanh: flagged: the loss at step 10 differs\n", "tanh: flagged: more\n"],
    ),
    "mixed devices": (
        lambda s: tanh(s).update(devices=["cuda"]),
        ["runs of one comparison are on different devices: cpu, cuda"],
    ),
    "mixed devices in one backend": (
        lambda s: tanh(s).update(devices=["cpu", "cuda"]),
        ["runs of one comparison are on different devices: cpu, cuda"],
    ),
    "a failure that is not counted": (
        lambda s: with_runs(s, run(3), failed("the loss became nan at step 4")),
        ["torch: seed 17: the loss became nan at step 4"],
    ),
    "a run that stopped early": (
        lambda s: with_runs(s, run(3), {**run(17), "accuracy": [98.25]}),
        ["torch: seed 17: "],
    ),
    "not timed": (
        lambda s: s["measurements"].update(operators={"missing": "operators.json: missing"}),
        ["the operators were not timed: operators.json: missing"],
    ),
    "a backend not timed": (
        lambda s: operators(s).update(rows=[row("torch")]),
        ["tanh: the operators were not timed with it; delete the folder timing beside"],
    ),
    "timed on another device": (
        lambda s: operators(s).update(device="cuda"),
        ["the operators were timed on cuda, the runs are on cpu"],
    ),
    "training not timed": (
        lambda s: s["measurements"].update(training_time={"missing": "training.json: missing"}),
        ["the training was not timed: training.json: missing"],
    ),
    "training of a backend not timed": (
        lambda s: training_time(s).update(rows=[measured("torch")]),
        ["tanh: the training was not timed with it; delete the folder timing beside"],
    ),
    "training timed on another device": (
        lambda s: training_time(s).update(device="cuda"),
        ["the training was timed on cuda, the runs are on cpu"],
    ),
    "raises in timing of training although it passes": (
        lambda s: training_time(s)["rows"].extend(
            [measured("torch", None, measure=None, error="RuntimeError: no")] * 2
        ),
        ["torch: timing of training graph: RuntimeError: no\n"],
    ),
    "event files that cannot be written": (
        lambda s: training_time(s)["rows"].append(
            measured(None, None, engine=None, measure="event_files_seconds", error="no")
        ),
        ["check failed: timing of training event_files_seconds: no\n"],
    ),
    "a timing of training without figures": (
        lambda s: training_time(s)["rows"][1].pop("value"),
        ["summary.json: $.measurements.training_time.rows[1]: 'value' is a required property"],
    ),
    "raises in timing although it passes": (
        lambda s: operators(s)["rows"].extend([row("torch", "RuntimeError: no")] * 2),
        ["torch: timing of activation: RuntimeError: no\n"],
    ),
    "a timing without figures": (
        lambda s: operators(s)["rows"][1].pop("ratio"),
        ["summary.json: $.measurements.operators.rows[1]: 'ratio' is a required property"],
    ),
    "a finding that is neither": (
        lambda s: torch(s)["verification"].update(findings={"zeros": {"holds": True}}),
        ["verification.findings.zeros: 'detail' is a required property"],
    ),
    "no backends": (
        lambda s: s["results"].update(backends=[]),
        ["summary.json: $.results.backends: [] "],
    ),
    "no seeds": (
        lambda s: s["results"].update(seeds=[]),
        ["summary.json: $.results.seeds: [] "],
    ),
    "no results": (
        lambda s: s.pop("results"),
        ["summary.json: $: 'results' is a required property"],
    ),
    "key missing": (
        lambda s: torch(s).pop("runs"),
        ["summary.json: $.results.backends[0]: 'runs' is a required property"],
    ),
    "key unknown": (
        lambda s: torch(s).update(speed=3),
        ["summary.json: $.results.backends[0]: ", "'speed' was unexpected"],
    ),
    "no verification": (
        lambda s: torch(s).pop("verification"),
        ["summary.json: $.results.backends[0]: 'verification' is a required property"],
    ),
    "wrong type": (
        lambda s: torch(s).update(seeds_ok="2"),
        ["summary.json: $.results.backends[0].seeds_ok: '2' is not of type 'integer'"],
    ),
    "accuracy above 100": (
        lambda s: torch(s)["accuracy"].update(mean=982.5),
        ["summary.json: $.results.backends[0].accuracy.mean: 982.5 is greater than"],
    ),
    "unknown verdict": (
        lambda s: verdict(s, "perhaps"),
        ["summary.json: $.results.backends[0].verification.verdict: 'perhaps' is not one of"],
    ),
    "another format": (
        lambda s: s.update(format=2),
        ["summary.json: $.format: 1 was expected"],
    ),
    "no digests": (
        lambda s: s.pop("files"),
        ["summary.json: $: 'files' is a required property"],
    ),
    "two faults": (
        lambda s: (verdict(s, "fail", "x"), tanh(s)["verification"].update(verdict="pass")),
        ["torch: verification says fail", "tanh: verification says pass"],
    ),
}


def test_good(tmp_path: Path, good: Summary, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, good) == 0
    assert capsys.readouterr().out == "check passed: 2 backends, every run as planned\n"


def test_what_is_expected_to_fail_may_train_to_something_else(
    tmp_path: Path, good: Summary
) -> None:
    tanh(good).update(comparison=comparison(verdict="DIFFERENT", flags=["the loss differs"]))
    assert check(tmp_path, good) == 0


@pytest.mark.parametrize("name", ["tanh", "compile"])
def test_what_is_refused_or_nobodys_may_raise_in_timing(
    tmp_path: Path, good: Summary, name: str
) -> None:
    operators(good)["rows"].append(row(name, "RuntimeError: no"))
    training_time(good)["rows"].append(measured(name, None, measure=None, error="no"))
    assert check(tmp_path, good) == 0


@pytest.mark.parametrize(("spoil", "words"), SPOILT.values(), ids=SPOILT)
def test_spoilt(
    tmp_path: Path,
    good: Summary,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Summary], object],
    words: list[str],
) -> None:
    spoil(good)
    assert check(tmp_path, good) == 1
    said = capsys.readouterr().out
    assert said.count(words[0]) == 1
    assert said.startswith("check failed: ")
    assert "passed" not in said
    for part in words:
        assert part in said


def test_of_thousands_of_faults_some_are_told(
    tmp_path: Path, good: Summary, capsys: pytest.CaptureFixture[str]
) -> None:
    with_runs(good, *({**failed("nan"), "seed": seed} for seed in range(2000)))
    assert check(tmp_path, good) == 1
    *told, last = capsys.readouterr().out.splitlines()
    assert len(told) == 50
    # Besides, the seeds are not those of the plan.
    assert last == "check failed: 1951 faults more; summary.json has every run"


OTHER_DIGEST = (
    "damaged: it does not have the digest recorded for it; delete it and run the pipeline again"
)
FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "missing; run the pipeline or its stage first"),
    "empty": (lambda path: path.write_text(""), "damaged: it is not whole"),
    "cut short": (lambda path: path.write_text(path.read_text()[:-20]), "damaged: it is not whole"),
    "a list": (lambda path: path.write_text("[]"), "damaged: it is not whole"),
    "no digest": (lambda path: path.write_text("{}"), "damaged: it is not whole"),
    "damaged digest": (
        lambda path: path.write_text(path.read_text().replace('"digest": "', '"digest": "0')),
        "damaged: it does not have the digest written in it",
    ),
    "improved by hand": (
        lambda path: path.write_text(path.read_text().replace("98.25", "99.25")),
        "damaged: it does not have the digest written in it",
    ),
}


@pytest.mark.parametrize(("spoil", "words"), FILES.values(), ids=FILES)
def test_damaged_file(
    tmp_path: Path,
    good: Summary,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
    words: str,
) -> None:
    path = tmp_path / "summary.json"
    artifact.write_json(path, good)
    spoil(path)
    assert __main__.main(["check", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"opproof check: {path}: {words}")
    assert error.count("\n") == 1


FILES_BESIDE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "missing; run the pipeline or its stage first"),
    "cut short": (lambda path: path.write_text(path.name[:-1]), OTHER_DIGEST),
    "a bit flipped": (lambda path: path.write_text(f"{path.name[:-1]}\0"), OTHER_DIGEST),
}


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize(("spoil", "words"), FILES_BESIDE.values(), ids=FILES_BESIDE)
def test_damaged_file_beside_the_summary(
    tmp_path: Path,
    good: Summary,
    capsys: pytest.CaptureFixture[str],
    name: str,
    spoil: Callable[[Path], object],
    words: str,
) -> None:
    write(tmp_path, good)
    spoil(tmp_path / name)
    assert __main__.main(["check", str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"check failed: {tmp_path / name}: {words}\n"


@pytest.mark.parametrize(("spoil", "words"), FILES_BESIDE.values(), ids=FILES_BESIDE)
def test_damaged_arrays_of_a_run(
    tmp_path: Path,
    good: Summary,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
    words: str,
) -> None:
    arrays = tmp_path / "train" / "torch" / "0" / "seed-3.npz"
    digest = artifact.write_bytes(arrays, arrays.name.encode())
    runs = [{"file": arrays.name, "sha256": digest}]
    artifact.write_json(arrays.with_name("block.json"), {"runs": runs})
    good["provenance"]["jobs"].append({"backend": "torch", "block": 0})
    assert check(tmp_path, good) == 0
    spoil(arrays)
    capsys.readouterr()
    assert __main__.main(["check", str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"check failed: {arrays}: {words}\n"


def check(folder: Path, summary: Summary) -> int:
    write(folder, summary)
    return __main__.main(["check", str(folder)])


def write(folder: Path, summary: Summary) -> None:
    for name in BESIDE:
        (folder / name).write_text(name)
    artifact.write_json(folder / "summary.json", summary)
