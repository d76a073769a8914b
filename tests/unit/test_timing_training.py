"""Timing of training: who is timed against what, and what the record of a real run says."""

import dataclasses
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from opproof import config, engines, training_time
from opproof.engines.graph import GraphEngine
from opproof.errors import BackendError, UserError
from opproof.lenet import initial_parameters, sample_orders
from opproof.settings import Backend, Settings
from opproof.timing import blocks, gpu, startup, trainees, training, training_tables
from opproof.timing.trainees import Kind, Trainee
from tests.unit.few_mnist import few, work
from tests.unit.test_main import CONTROLLERS

__all__ = ["few", "work"]

CPU, GPU = torch.device("cpu"), torch.device("cuda")
ROW = {
    "measure": str,
    "engine": str,
    "backend": str,
    "seeds": int,
    "arithmetic": str,
    "value": float,
    "low": float,
    "high": float,
    "verdict": str,
    "samples": int,
    "error": type(None),
}
OF_A_RUN = {"step_seconds", "run_seconds", "runs_per_minute", "evaluation_seconds"}
GRAPH = Kind("graph", "torch", 1, "fp32")

pytestmark = pytest.mark.usefixtures("arithmetic")


@pytest.fixture
def short(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time few and short rounds on few images; start no process."""
    monkeypatch.setattr(training, "ROUNDS", 6)
    monkeypatch.setattr(trainees, "STRETCH", 1e-3)
    monkeypatch.setattr(startup, "seconds", lambda settings, engine, backend: 2.5)


# --- backends that are timed


def raises(x: Tensor) -> Tensor:
    raise ValueError("no GELU today\nnor tomorrow")


def slow(x: Tensor) -> Tensor:
    time.sleep(0.005)
    return F.gelu(x)


def raises_in_evaluation(x: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        raise RuntimeError("not without grad")
    return F.gelu(x)


def out_of_memory(x: Tensor) -> Tensor:
    raise MemoryError


def own(function: Any, name: str = "mine", **more: Any) -> Backend:
    op = function if isinstance(function, str) else f"{__name__}:{function.__name__}"
    return Backend(name, op=op, **more)


def settings_with(few: Path, *backends: Backend, **changes: Any) -> Settings:
    raw = {"device": "cpu", "backends": ["torch"], "train": {"epochs": 2}}
    resolved = config.resolve({**raw, "data": {"folder": str(few)}, **changes})
    return dataclasses.replace(resolved, backends=(*resolved.backends, *backends))


def rows_of(record: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in record["rows"] if wanted.items() <= row.items()]


# --- who is timed


def of_kernel(settings: Settings, names: list[str], where: torch.device) -> list[tuple[str, int]]:
    kinds, _ = trainees.plan(settings, names, where)
    return [(kind.backend, kind.seeds) for kind in kinds if kind.engine == "kernel"]


def test_the_textbooks_loop_comes_first_and_all_engines_of_each_backend(few: Path) -> None:
    kinds, skipped = trainees.plan(settings_with(few, own(slow)), ["mine"], CPU)
    assert kinds == [
        Kind(engine, backend, 1, "fp32")
        for engine in ("reference", "graph")
        for backend in ("torch", "mine")
    ]
    assert skipped == []


@pytest.mark.parametrize(
    ("precision", "others"),
    [("fp32", ["tf32 convolutions"]), ("tf32", ["fp32", "tf32 convolutions"])],
)
def test_on_a_gpu_the_textbooks_loop_is_there_as_torch_has_it(
    few: Path, precision: str, others: list[str]
) -> None:
    settings = settings_with(few, own(slow), device="auto", precision=precision)
    kinds, _ = trainees.plan(settings, ["mine"], GPU)
    found = [(kind.backend, kind.arithmetic) for kind in kinds if kind.engine == "reference"]
    assert found == [
        ("torch", precision),
        ("mine", precision),
        *(("torch", other) for other in others),
    ]


@pytest.mark.parametrize(("where", "seeds"), [(CPU, [1, 4, 16]), (GPU, [1, 4, 16, 132, 264])])
def test_the_engine_of_many_seeds_trains_several_numbers_of_them(
    few: Path, where: torch.device, seeds: list[int]
) -> None:
    settings = settings_with(few, backends=["fused"], engine="kernel")
    assert of_kernel(settings, ["fused"], where) == [("fused", number) for number in seeds]


def test_a_step_whose_library_is_not_built_is_skipped(few: Path) -> None:
    settings = settings_with(few, backends=["fused", "torch"], timing=False)
    assert of_kernel(settings, ["fused", "torch"], CPU) == []
    _, skipped = trainees.plan(settings, ["fused", "torch"], CPU)
    reason = "its library gelu_step is not among the settings' libraries"
    assert skipped == [{"engine": "kernel", "backend": "fused", "reason": reason}]


def test_a_name_that_is_not_in_the_settings(few: Path) -> None:
    with pytest.raises(UserError, match=r"backend 'fsued': not in the settings; allowed: torch$"):
        training.time_training(settings_with(few), ["fsued"])


# --- trainees


class Recorder:
    """An engine that takes note of what it is given."""

    seeds_at_once, batches_at_once = 16, 3

    def __init__(self) -> None:
        self.begun: list[Tensor] = []
        self.trained: list[Tensor] = []
        self.switches: set[tuple[bool, bool]] = set()

    def begin(self, parameters: Tensor) -> None:
        self.begun.append(parameters)

    def train(self, orders: Tensor) -> Tensor:
        self.switches.add((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        self.trained.append(orders)
        time.sleep(1e-4)
        return torch.zeros(len(orders), -(-orders.shape[1] // 64))

    def predict(self) -> Tensor:
        return torch.zeros(1, 200)


@pytest.fixture
def recorder(work: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(trainees, "STRETCH", 1e-3)
    monkeypatch.setattr(engines, "create", lambda *_: recorder)
    return recorder


def test_a_trainee_goes_through_the_orders_of_its_seeds(few: Path, recorder: Recorder) -> None:
    trainee = Trainee(Kind("kernel", "torch", 3, "fp32"), settings_with(few), CPU)
    expected = torch.stack([next(sample_orders(seed, 320)) for seed in range(3)])
    (begun,) = recorder.begun
    assert torch.equal(begun, initial_parameters(range(3)))
    recorder.trained.clear()
    trainee._next_step = 0
    trainee.train(2)
    trainee.train(3)
    trainee.train(2)
    assert torch.equal(torch.cat(recorder.trained, dim=1)[:, :320], expected)
    assert torch.equal(recorder.trained[2], expected[:, :128]), "an epoch begins anew"
    assert recorder.trained[0].dtype == torch.int64


def test_a_stretch_takes_the_time_that_it_is_to_take(
    few: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainees, "STRETCH", 1e9)
    trainee = Trainee(GRAPH, settings_with(few), CPU)
    assert trainee.steps == 5, "an epoch at most"
    monkeypatch.setattr(trainees, "STRETCH", 1e-9)
    trainee = Trainee(GRAPH, settings_with(few), CPU)
    assert trainee.steps == 1
    recorder.trained.clear()
    trainee.stretch()
    assert [len(order[0]) for order in recorder.trained] == [64]


def test_it_never_trains_beyond_the_schedule_that_the_engine_has(
    few: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainees, "_SCHEDULED", 12)  # three epochs
    trainee = Trainee(GRAPH, settings_with(few, train={"epochs": 1}), CPU)
    trainee._begin()
    recorder.begun.clear()
    for _ in range(3):
        trainee.train(5)
    assert recorder.begun == []
    trainee.train(1)
    assert len(recorder.begun) == 1


def test_a_real_schedule_is_long_enough(short: None, few: Path) -> None:
    trainee = Trainee(GRAPH, settings_with(few, train={"epochs": 1}), CPU)
    assert isinstance(trainee._engine, GraphEngine)
    assert len(trainee._engine._schedule) == trainee._scheduled == 100_000
    for _ in range(3):
        trainee.train(5)


@pytest.mark.parametrize(
    ("word", "switches"),
    [("fp32", (False, False)), ("tf32", (True, True)), ("tf32 convolutions", (False, True))],
)
def test_each_computes_in_its_own_arithmetic(
    few: Path, recorder: Recorder, word: str, switches: tuple[bool, bool]
) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    Trainee(Kind("reference", "torch", 1, word), settings_with(few), CPU)
    assert recorder.switches == {switches}
    after = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    assert after == before


# --- whole runs


def test_the_record_of_a_run(short: None, few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = settings_with(few, own("opproof.textbook:gelu"))
    record = training.time_training(settings, None)
    again = json.loads(json.dumps(record, allow_nan=False))
    assert {**again, "load": record["load"]} == record
    assert (record["stage"], record["device"], record["threads"]) == ("timing training", "cpu", 1)
    assert (record["steps"], record["precision"]) == (10, "fp32")
    assert record["train"] == {"epochs": 2, "batch_size": 64, "learning_rate": 0.003}
    assert record["method"] == {
        "rounds": 6,
        "stretch_seconds": 1e-3,
        "margin": 0.03,
        "confidence": 0.95,
    }
    assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    found = {}
    for row in record["rows"]:
        assert list(row) == list(ROW)
        for key, kind in ROW.items():
            nothing = row["measure"] == "event_files_seconds" and key in (
                ["engine", "backend", "seeds", "arithmetic"]
            )
            of_ratios = key in ("low", "high", "verdict")
            nothing |= row["measure"] != "ratio_to_reference" and of_ratios
            assert isinstance(row[key], type(None) if nothing else kind), (row, key)
        found.setdefault((row["engine"], row["backend"]), set()).add(row["measure"])
    assert found == {
        ("reference", "torch"): OF_A_RUN | {"start_up_seconds"},
        ("reference", "mine"): OF_A_RUN | {"ratio_to_reference"},
        ("graph", "torch"): OF_A_RUN | {"ratio_to_reference", "start_up_seconds"},
        ("graph", "mine"): OF_A_RUN | {"ratio_to_reference"},
        (None, None): {"event_files_seconds"},
    }
    assert set(record["measures"]) == set().union(*found.values()), "of a GPU there is none"
    assert "graph, mine, seeds: 1, fp32 (4 of 4)" in capsys.readouterr().err
    assert not [*Path("results").rglob("*tmp*")]


def test_times_follow_from_the_median_step(short: None, few: Path) -> None:
    record = training.time_training(settings_with(few), None)
    for engine in ("reference", "graph"):
        step, run, runs = (
            rows_of(record, engine=engine, measure=measure)[0]["value"]
            for measure in ("step_seconds", "run_seconds", "runs_per_minute")
        )
        assert run == pytest.approx(10 * step)
        assert runs == pytest.approx(60 / run)
    (ratio_row,) = rows_of(record, engine="graph", measure="ratio_to_reference")
    assert ratio_row["low"] <= ratio_row["value"] <= ratio_row["high"]


def test_seeds_that_are_trained_together_share_the_time() -> None:
    kind = Kind("kernel", "mine", 4, "fp32")
    own, theirs = ([blocks.Sample(seconds, None)] * 6 for seconds in (0.02, 0.1))
    rows = {row["measure"]: row for row in training._of_steps(kind, own, theirs, 100)}
    assert {measure: row["value"] for measure, row in rows.items()} == {
        "step_seconds": pytest.approx(0.02),
        "run_seconds": pytest.approx(2.0),
        "runs_per_minute": pytest.approx(120.0),
        "ratio_to_reference": pytest.approx(20.0),
    }
    assert rows["ratio_to_reference"]["verdict"] == "FASTER"


def test_who_sleeps_is_slower(short: None, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Than itself awake: 30 ms a step; and by so much."""
    monkeypatch.setattr(training, "ROUNDS", 12)
    record = training.time_training(settings_with(few, own(slow)), None)
    (slept,) = rows_of(record, engine="reference", backend="mine", measure="ratio_to_reference")
    assert slept["verdict"] == "SLOWER"
    assert slept["low"] <= slept["value"] <= slept["high"] < 0.9
    (step,) = rows_of(record, engine="graph", backend="mine", measure="step_seconds")
    assert step["value"] > 0.03
    assert "SLOWER" in training_tables.as_text(record)


@pytest.mark.parametrize(
    ("function", "error", "measures"),
    [
        pytest.param(raises, "ValueError: no GELU today", {None}, id="always"),
        pytest.param(
            raises_in_evaluation,
            "RuntimeError: not without grad",
            {"evaluation_seconds"},
            id="in evaluation",
        ),
    ],
)
def test_what_an_operator_raises_is_its_rows_and_the_others_go_on(
    short: None, few: Path, function: Any, error: str, measures: set[str | None]
) -> None:
    other = own("opproof.textbook:gelu", "other")
    record = training.time_training(settings_with(few, own(function), other), None)
    failed = [row for row in record["rows"] if row["error"]]
    assert {(row["engine"], row["backend"]) for row in failed} == {
        ("reference", "mine"),
        ("graph", "mine"),
    }
    assert {row["measure"] for row in failed} == measures
    assert {row["error"] for row in failed} == {error}
    assert all(row["value"] is row["samples"] is None for row in failed)
    assert Counter(row["engine"] for row in rows_of(record, backend="other")) == {
        "reference": 5,
        "graph": 5,
    }
    assert f"ERROR: mine: timing of training, graph{', ' if None not in measures else ': '}" in (
        training_tables.as_text(record)
    )


def test_without_the_textbooks_loop_there_is_no_ratio(
    short: None, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = engines.create

    def without(engine: str, *rest: Any) -> Any:
        if engine == "reference":
            raise ModuleNotFoundError("No module named 'torchvision'")
        return create(engine, *rest)

    monkeypatch.setattr(engines, "create", without)
    record = training.time_training(settings_with(few), None)
    assert [row["error"] for row in record["rows"] if row["error"]] == [
        "ModuleNotFoundError: No module named 'torchvision'"
    ]
    assert not rows_of(record, measure="ratio_to_reference")
    assert len(rows_of(record, engine="graph")) == 5


def test_an_engine_that_a_backend_has_no_library_for_is_a_row(
    short: None, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise BackendError("cannot be built: lenet_step.cpp:3: no")

    monkeypatch.setattr("opproof.operators.resolve_step", broken)
    settings = settings_with(few, backends=["fused"], engine="kernel")
    kinds, _ = trainees.plan(settings, ["fused"], CPU)
    kinds = [kind for kind in kinds if kind.engine == "kernel"]
    rows = [*training._of_trainees(kinds, settings, CPU, 10)]
    assert [(row["seeds"], row["measure"]) for row in rows] == [(1, None), (4, None), (16, None)]
    assert {row["error"] for row in rows} == {"cannot be built: lenet_step.cpp:3: no"}


def test_the_engine_of_many_seeds_is_timed(
    short: None, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With operators in place of the library's that do nothing."""
    library = SimpleNamespace(
        train=lambda *_: time.sleep(1e-4), predict=lambda images, weights: torch.zeros(1, 200)
    )
    monkeypatch.setattr("opproof.operators.resolve_step", lambda *_: library)
    settings = settings_with(few, backends=["fused"], engine="kernel")
    monkeypatch.setattr(trainees, "ENGINES", ("reference", "kernel"))
    kinds, _ = trainees.plan(settings, ["fused"], CPU)
    kinds = [kind for kind in kinds if kind.engine == "kernel" or kind.backend == "torch"]
    record = {
        "rows": [*training._of_trainees(kinds, settings, CPU, 10)],
        "measures": training._MEASURES,
        "precision": "fp32",
    }
    for seeds in (1, 4, 16):
        of_seeds = rows_of(record, engine="kernel", seeds=seeds)
        evaluated = {"evaluation_seconds"} if seeds == 1 else set()
        assert {row["measure"] for row in of_seeds} == {
            "step_seconds",
            "run_seconds",
            "runs_per_minute",
            "ratio_to_reference",
            *evaluated,
        }
    named = {(row[0], row[1]) for row in training_time.rows(record)}
    assert ("runs a minute", "kernel, 16 seeds") in named


def test_a_fault_of_the_machine_is_no_finding(short: None, few: Path) -> None:
    with pytest.raises(MemoryError):
        training.time_training(settings_with(few, own(out_of_memory)), None)


def test_event_files_that_cannot_be_written_are_a_row(
    short: None, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("opproof.event_format", raising=False)
    monkeypatch.setitem(sys.modules, "opproof.event_format", None)  # as without TensorBoard
    (row,) = training._of_event_files(settings_with(few), 10)
    assert row["error"].startswith("ModuleNotFoundError: ")
    found = [*training_time.errors({"rows": [row]})]
    assert found == [(None, row["error"], f"timing of training, event files, s: {row['error']}")]


# --- start-up


def test_a_process_is_started_and_trains_a_step(mnist_folder: Path, tmp_path: Path) -> None:
    settings = settings_with(mnist_folder, output=str(tmp_path))
    begun = time.perf_counter()
    seconds = startup.seconds(settings, "graph", "torch")
    assert 0.1 < seconds < time.perf_counter() - begun


def test_a_process_that_fails_says_why(mnist_folder: Path, tmp_path: Path) -> None:
    settings = settings_with(mnist_folder, own("absent:f"), output=str(tmp_path))
    with pytest.raises(BackendError, match=r"BackendError: op absent:f: ModuleNotFoundError"):
        startup.seconds(settings, "graph", "mine")


# --- on a GPU


@pytest.mark.parametrize(
    ("spans", "count", "microseconds"),
    [
        ([(0, 5), (10, 12)], 2, 7),
        ([(10, 12), (0, 5)], 2, 7),
        ([(0, 5), (3, 8)], 2, 8),
        ([(0, 9), (3, 4), (8, 10)], 3, 10),
    ],
)
def test_kernels_at_the_same_time_are_counted_once(
    spans: list[tuple[float, float]], count: int, microseconds: float
) -> None:
    found = gpu._kernels(spans)
    assert found
    assert (found.count, found.seconds) == (count, pytest.approx(microseconds / 1e6))


def test_of_what_the_profiler_sees_only_kernels_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def event(name: str, device: str, start: float, end: float) -> SimpleNamespace:
        return SimpleNamespace(
            name=name,
            device_type=getattr(gpu.DeviceType, device),
            time_range=SimpleNamespace(start=start, end=end),
        )

    class Profile:
        def __init__(self, activities: Any) -> None:
            assert activities == [gpu.ProfilerActivity.CUDA]

        def __enter__(self) -> "Profile":
            return self

        def __exit__(self, *_: object) -> None: ...

        def events(self) -> list[SimpleNamespace]:
            return [
                event("cudaLaunchKernel", "CPU", 0, 50),
                event("gelu_kernel", "CUDA", 10, 30),
                event("Memcpy HtoD (Pageable -> Device)", "CUDA", 40, 45),
                event("Memset (Device)", "CUDA", 50, 51),
                event("sgemm", "CUDA", 60, 65),
            ]

    monkeypatch.setattr(gpu, "profile", Profile)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    calls = []
    found = gpu.kernels(lambda: calls.append(1))
    assert found
    assert (found.count, found.seconds) == (2, pytest.approx(25e-6))
    assert len(calls) == 2, "once before"
    monkeypatch.setattr(Profile, "events", lambda self: [])
    assert gpu.kernels(lambda: None) is None


def test_on_a_gpu_a_stretch_is_what_an_engine_captures(
    few: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainees, "STRETCH", 0.05)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda where: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda where: 1000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda where: 5000)
    trainee = Trainee(GRAPH, settings_with(few), GPU)
    assert {len(order[0]) for order in recorder.trained} == {3 * 64}
    assert trainee.at_once == recorder.batches_at_once == 3
    assert trainee.steps > 3
    assert trainee.steps % 3 == 0
    assert trainee.peak_memory == 4000
    reference = Trainee(Kind("reference", "torch", 1, "fp32"), settings_with(few), GPU)
    assert reference.steps == 5, "as many as take the time, an epoch at most"


@pytest.mark.parametrize("used", [87.5, None])
def test_the_rows_of_a_gpu(
    few: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, used: float | None
) -> None:
    trainee = Trainee(Kind("reference", "torch", 1, "tf32 convolutions"), settings_with(few), CPU)
    trainee.at_once, trainee.peak_memory = 5, 12_000_000
    monkeypatch.setattr(gpu, "kernels", lambda function: function() or gpu.Kernels(500, 0.25))
    monkeypatch.setattr(gpu, "utilisation", lambda function, where: used)
    rows = {row["measure"]: row for row in training._alone(trainee, 0.2, GPU)}
    values = {measure: row["value"] for measure, row in rows.items()}
    assert values.pop("evaluation_seconds") < 1
    assert values == {
        "peak_memory_bytes": 12_000_000,
        "kernels_per_step": 100.0,
        "launch_gap_percent": pytest.approx(75.0),
        **({} if used is None else {"gpu_utilisation_percent": used}),
    }
    record = {"rows": [*rows.values()], "precision": "fp32"}
    record["measures"] = training._MEASURES_OF_A_GPU
    shown = [*training_time.rows(record)]
    assert shown[:3] == [
        ["kernels a step", "reference, tf32 convolutions", "100"],
        ["launch gaps, %", "reference, tf32 convolutions", "75"],
        ["peak memory, MB", "reference, tf32 convolutions", "12"],
    ]


# --- as text


def test_the_table_names_each_measure_once(short: None, few: Path) -> None:
    record = training.time_training(settings_with(few), None)
    record["skipped"] = [{"engine": "kernel", "backend": "fused", "reason": "why"}]
    lines = training_tables.as_text(record).splitlines()
    table = lines[: lines.index("")]
    assert table[0].split() == ["measure", "engine", "torch", "any"]
    assert [line[:14] for line in table[1:5]] == [
        "step, ms      ",
        " " * 14,
        "run, s        ",
        " " * 14,
    ]
    assert len({len(line) for line in table}) == 1
    (started,) = [line for line in table if line.startswith("start-up")]
    assert started.split()[-2:] == ["2.5", "-"]
    text = "\n".join(lines)
    for heading in {line.split("  ")[0] for line in table[1:]} - {""}:
        assert f"\n{heading}: " in text, "it is defined"
    assert "Time of the 10 steps of a run" in text
    assert "Skipped: kernel, fused: why." in text


def test_every_measure_has_a_heading() -> None:
    measures = {**training._MEASURES, **training._MEASURES_OF_A_GPU}
    assert list(measures) == list(training_time._HEADINGS)


COMMAND = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1].split()))
from opproof.timing import trainees, training
training.ROUNDS, trainees.STRETCH = 6, 0.001
from opproof.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


def test_the_command_goes_on_without_what_only_some_of_it_needs(
    mnist_folder: Path, tmp_path: Path
) -> None:
    settings = settings_with(mnist_folder, output=str(tmp_path / "out"))
    settings.freeze()
    absent = " ".join([*CONTROLLERS, "torchvision", "pynvml", "pandas"])
    arguments = ["--config", str(settings.frozen_path), "--backend", "torch"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, absent, "timing", "training", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "timing" / "training.json").read_text())
    assert record["steps"] == 1876
    del record["digest"]
    assert done.stdout == training_tables.as_text(record) + "\n"
    failed = [(row["engine"], row["error"]) for row in record["rows"] if row["error"]]
    assert [engine for engine, _ in failed] == ["reference", None], "and event files"
    assert all(error.startswith("ModuleNotFoundError: ") for _, error in failed)
    assert len(rows_of(record, engine="graph")) == 5
