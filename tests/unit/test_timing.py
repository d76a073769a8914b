"""Timing: its statistics, the fairness of its blocks, and what the record of a real run says."""

import dataclasses
import gc
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from opproof import __main__, config
from opproof.errors import UserError
from opproof.settings import GELU, Backend
from opproof.timing import (
    blocks,
    calls,
    cases,
    comparison,
    contenders,
    memory,
    operators,
    ratio,
    tables,
)
from opproof.timing.blocks import Sample
from opproof.timing.cases import ACTIVATION, POOLED, Case
from tests.unit.test_main import CONTROLLERS

CPU = torch.device("cpu")
NAMESPACE = "opproof_timing_tests"
ROW = {
    "backend": str,
    "baseline": str,
    "operation": str,
    "shape": list,
    "values": str,
    "direction": str,
    "error": type(None),
    "mode": str,
    "via": str,
    "ratio": dict,
    "verdict": str,
    "ratios": list,
    "outliers": dict,
    "ns_per_element": float,
    "cpu_ns_per_element": float,
    "copy_percent": float,
    "rounds": int,
    "marks": list,
}

pytestmark = pytest.mark.usefixtures("arithmetic", "fill")


@pytest.fixture
def fill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave another setting of torch as it was."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time one size and one of LeNet-5's shapes, in few and short rounds."""
    monkeypatch.setattr(cases, "SIZES", (512,))
    monkeypatch.setattr(cases, "_LENET", ((6, 4, 4),))
    monkeypatch.setattr(cases, "_BEFORE_POOLS", ((6, 4, 4),))
    monkeypatch.setattr(cases, "_BATCHES", (2,))
    monkeypatch.setattr(cases, "VERY_NEGATIVE_SIZE", 640)
    monkeypatch.setattr(blocks, "ROUNDS", 7)
    monkeypatch.setattr(blocks, "BLOCK", 1e-4)


@pytest.fixture(scope="session")
def registered() -> None:
    """Register the four operators that a library of OpProof has, and one pooled."""
    library = torch.library.Library(NAMESPACE, "DEF")
    define = {
        "forward(Tensor x) -> Tensor": lambda x: F.gelu(x),
        "backward(Tensor grad, Tensor x) -> Tensor": torch.ops.aten.gelu_backward.default,
        "forward_out(Tensor x, Tensor(a!) out) -> ()": lambda x, out: None,
        "backward_out(Tensor grad, Tensor x, Tensor(a!) out) -> ()": lambda grad, x, out: None,
        "pooled_forward(Tensor x) -> Tensor": lambda x: F.avg_pool2d(x, 2),
        "named_otherwise(Tensor x) -> Tensor": lambda x: F.gelu(x),
    }
    for schema, function in define.items():
        library.define(schema)
        library.impl(schema.partition("(")[0], function, "CompositeImplicitAutograd")
    # The library undoes its registrations when it is collected.
    globals()["_library"] = library


# --- operators that are timed


def thirty_times(x: Tensor) -> Tensor:
    for _ in range(29):
        F.gelu(x)
    return F.gelu(x)


def raises(x: Tensor) -> Tensor:
    raise ValueError("no GELU today\nnor tomorrow")


def without_grad(x: Tensor) -> Tensor:
    return F.gelu(x.detach())


def raises_at_times(x: Tensor) -> Tensor:
    if next(_COUNT) % 20 == 19:
        raise RuntimeError("the twentieth")
    return F.gelu(x)


def out_of_memory(x: Tensor) -> Tensor:
    raise MemoryError


_COUNT = itertools.count()


# --- statistics


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "ratios", [[0.5, 2.0], [1.1, 0.9, 1.0], [1.5, 1.25, 3.0, 2.0, 100.0], [1.25] * 7]
)
def test_the_interval_is_students_of_the_logarithms(ratios: list[float]) -> None:
    found = ratio.interval(ratios)
    mean = np.log(ratios).mean()
    assert found["mean"] == pytest.approx(np.exp(mean))
    if len(set(ratios)) == 1:
        assert {*found.values()} == {1.25}
        return
    expected = stats.ttest_1samp(np.log(ratios), 0.0).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx(
        (np.exp(expected[0]), np.exp(expected[1]))
    )
    inverse = ratio.interval([1 / one for one in ratios])
    assert inverse["low"] == pytest.approx(1 / found["high"])


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_ratios_have_no_interval(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} ratios: an interval needs 2"):
        ratio.interval([1.0] * count)


@pytest.mark.parametrize(
    ("ratios", "mild", "severe"),
    [
        ([1.0] * 9, 0, 0),
        ([1.0, 1.1] * 9, 0, 0),
        ([*np.linspace(1.0, 1.1, 21), 1.2], 1, 0),
        ([*np.linspace(1.0, 1.1, 21), 5.0, 0.2], 0, 2),
    ],
)
def test_outliers_are_classified(ratios: list[float], mild: int, severe: int) -> None:
    assert ratio.outliers(ratios) == {"mild": mild, "severe": severe}


def test_an_operator_is_the_same_as_itself() -> None:
    """The A/A control of timing: with more rounds than usual, for a machine that is busy."""
    torch.set_num_threads(1)
    x = torch.randn(4096)
    with torch.no_grad():
        one, other = blocks.measure([lambda: F.gelu(x)] * 2, CPU, 2001)
    assert isinstance(one, list)
    assert isinstance(other, list)
    found = ratio.interval([a.compared / b.compared for a, b in zip(one, other, strict=True)])
    assert ratio.verdict(found["low"], found["high"]) == "SAME", found


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (1.031, 2, "FASTER"),
        (1.03, 2, "UNCLEAR"),
        (0.5, 0.970, "SLOWER"),
        (0.5, 0.971, "UNCLEAR"),
        (0.971, 1.03, "SAME"),
        (0.970, 1.03, "UNCLEAR"),
        (0.971, 1.031, "UNCLEAR"),
        (0.5, 2, "UNCLEAR"),
        (1.01, 1.02, "SAME"),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(low: float, high: float, word: str) -> None:
    assert ratio.verdict(low, high) == word


# --- blocks


@pytest.mark.parametrize("count", range(1, 13))
def test_everyone_comes_at_every_place_and_after_everyone_else_equally_often(count: int) -> None:
    times = 1 if count % 2 == 0 else 2
    rounds = list(blocks._order(count, times * count))
    assert {tuple(sorted(order)) for order in rounds} == {tuple(range(count))}
    places = Counter((place, who) for order in rounds for place, who in enumerate(order))
    assert set(places.values()) == {times}
    assert len(places) == count**2
    followers = Counter(pair for order in rounds for pair in itertools.pairwise(order))
    assert len(followers) == count * (count - 1)
    assert set(followers.values()) <= {times}


def test_blocks_are_interleaved_and_begin_with_untimed_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[str] = []

    def clock(function: blocks.Function, calls: int) -> Sample:
        called.append("(")
        for _ in range(calls):
            function()
        called.append(")")
        return Sample(blocks.BLOCK / 4.9, None)  # 5 calls a block, of which 4.9 are needed

    monkeypatch.setattr(blocks, "_on_cpu", clock)
    functions = [lambda name=name: called.append(name) for name in "abc"]
    samples = blocks.measure(functions, CPU, 3)
    text = "".join(called)
    blocks_of = {name: f"{2 * name}({5 * name})" for name in "abc"}
    order = "".join("abc"[i] for rounds in blocks._order(3, 3) for i in rounds)
    measured = "".join(blocks_of[name] for name in order)
    assert text.endswith(measured)
    assert not text.removesuffix(measured).endswith("aa(")
    assert [len(each) for each in samples] == [3, 3, 3]


@pytest.mark.parametrize("first", [blocks.BLOCK, 10 * blocks._LONG])
def test_who_is_cold_or_disturbed_at_first_has_blocks_as_long_as_others(first: float) -> None:
    """Else they would be slower ones: so F.gelu once was 5 to 50 % faster than itself."""
    seconds = itertools.chain([first], itertools.repeat(blocks.BLOCK / 100))
    assert blocks._calls_per_block(lambda: None, lambda *_: Sample(next(seconds), None)) == (
        25,
        100,
    )


@pytest.mark.parametrize(("seconds", "calls_"), [(1.0, (0, 1)), (1e-3, (1, 1)), (2e-5, (7, 25))])
def test_blocks_of_slow_calls_have_few(seconds: float, calls_: tuple[int, int]) -> None:
    assert blocks._calls_per_block(lambda: None, lambda *_: Sample(seconds, None)) == calls_


def test_nothing_is_collected_in_a_block(short: None) -> None:
    seen = []
    blocks.measure([lambda: seen.append(gc.isenabled())], CPU, 6)
    assert not any(seen)
    assert gc.isenabled()


def test_time_of_the_thread_is_beside_time_by_the_clock(short: None) -> None:
    def sleep() -> None:
        torch.ones(1)
        subprocess.run(["sleep", "0.01"], check=True)

    (samples,) = blocks.measure([sleep], CPU, 6)
    assert isinstance(samples, list)
    found = blocks.medians(samples)
    assert found.cpu is not None
    assert found.wall >= 0.01
    assert found.cpu < found.wall
    assert found.compared >= 0.01, "asleep, not waiting for a core"


def test_waiting_for_a_core_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    assert blocks.Sample(0.5, 0.125, queued=0.25).per(2) == blocks.Sample(0.25, 0.0625, 0.125)
    assert blocks.Sample(0.5, 0.125, queued=0.25).compared == 0.25
    assert blocks.Sample(0.5, 0.375, queued=0.25).compared == 0.375, "never less than it took"
    assert blocks.Sample(0.5, None).compared == 0.5
    core = {next(iter(os.sched_getaffinity(0)))}
    busy = subprocess.Popen(["sh", "-c", "while :; do :; done"])
    everywhere = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(busy.pid, core)
        os.sched_setaffinity(0, core)
        sample = blocks._on_cpu(lambda: sum(range(100_000)), 200)
    finally:
        os.sched_setaffinity(0, everywhere)
        busy.kill()
        busy.wait()
    assert sample.queued > 0.1 * sample.wall
    assert sample.compared == pytest.approx(sample.cpu, rel=0.1)
    monkeypatch.setattr(blocks, "_SCHEDSTAT", Path("/absent"))
    assert blocks._on_cpu(lambda: None, 1).queued == 0.0


# --- cases


def test_sizes_and_shapes() -> None:
    default, large = (cases.plan(CPU, large=flag, pooled=False) for flag in (False, True))
    sizes = [64, 512, 4096, 8192, 32_768, 100_000, 1_000_000]
    assert [case.shape for case in default[:7]] == [(size,) for size in sizes]
    assert [case.shape for case in default[7:15]] == [
        (100_000,),
        (64, 6, 24, 24),
        (64, 6, 12, 12),
        (64, 16, 8, 8),
        (64, 16, 4, 4),
        (64, 120),
        (64, 84),
        (256, 6, 24, 24),
    ]
    assert [case.shape for case in large if case not in default] == [(10**7,), (10**8,)]
    assert {case.operation for case in large} == {ACTIVATION}


@pytest.mark.parametrize(("device", "largest"), [("cpu", 256), ("cuda", 4096)])
def test_pooled_shapes(device: str, largest: int) -> None:
    plan = cases.plan(torch.device(device), large=False, pooled=True)
    shapes = [case.shape for case in plan if case.operation == POOLED]
    assert shapes[:4] == [(64, 6, 24, 24), (64, 16, 8, 8), (256, 6, 24, 24), (256, 16, 8, 8)]
    assert max(shapes)[0] == largest


def test_one_case_has_denormal_results() -> None:
    (case,) = [case for case in cases.plan(CPU, False, False) if case.values != "normal"]
    x = case.input(CPU)
    assert (x.shape, x.dtype) == ((100_000,), torch.float32)
    assert -20 <= x.min() < -19.9 < -14.1 < x.max() <= -14
    assert torch.equal(x, case.input(CPU))


@pytest.mark.parametrize(
    ("elements", "rounds"), [(10**6, 41), (4 * 10**6, 41), (10**7, 21), (10**8, 9)]
)
def test_large_cases_have_fewer_rounds(elements: int, rounds: int) -> None:
    assert Case(ACTIVATION, (elements,)).rounds(41) == rounds
    assert Case(ACTIVATION, (elements,)).rounds(7) == 7


def test_memory_is_what_machine_and_cgroups_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo, own, groups = tmp_path / "meminfo", tmp_path / "cgroup", tmp_path / "groups"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:    2000 kB\n")
    own.write_text("0::/slurm/job_1\n")
    for group, limit in (("slurm", "1500000"), ("slurm/job_1", "max")):
        (groups / group).mkdir(parents=True)
        (groups / group / "memory.max").write_text(f"{limit}\n")
        (groups / group / "memory.current").write_text("900000\n")
        (groups / group / "memory.stat").write_text("anon 3\ninactive_file 400000\n")
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(memory, "_OWN_CGROUP", own)
    monkeypatch.setattr(memory, "_CGROUPS", groups)
    assert memory.available(CPU) == 1_000_000
    own.write_text("12:memory:/slurm\n")
    assert memory.available(CPU) == 2_048_000


# --- what is called


def baseline(pooled: bool) -> contenders.Contender:
    """Return F.gelu's, or F.gelu, pool and F.gelu."""
    alone = contenders.of_reference(GELU, "torch")
    return contenders.three_operators(alone) if pooled else alone


@pytest.mark.parametrize("pooled", [False, True])
def test_torchs_operators_alone_are_those_of_autograd(pooled: bool) -> None:
    contender = baseline(pooled)
    x = Case(ACTIVATION, (2, 3, 4, 4)).input(CPU)
    results = {}
    for direction in calls.DIRECTIONS:
        given = calls.inputs(contender, direction, x)
        with torch.set_grad_enabled(direction == "both"):
            for call in calls.of_contender(contender, direction, given):
                given.result.fill_(7)
                returned = call.function()
                result = given.result if call.mode == "out" else returned
                results[direction, call.mode] = result.clone()
    expected = F.gelu(F.avg_pool2d(F.gelu(x), 2)) if pooled else F.gelu(x)
    assert torch.equal(results["forward", "allocated"], expected)
    assert torch.equal(results["backward", "allocated"], results["both", "allocated"])
    assert len(results) == (3 if pooled else 5)
    if not pooled:
        assert torch.equal(results["forward", "out"], expected)
        assert torch.equal(results["backward", "out"], results["both", "allocated"])


@pytest.mark.parametrize(
    ("pooled", "forward", "backward"), [(False, 2, 3), (True, 1.25, 2.25)], ids=["", "pooled"]
)
def test_bytes_that_must_be_moved(pooled: bool, forward: float, backward: float) -> None:
    x = torch.ones(2, 3, 4, 4)
    given = calls.inputs(baseline(pooled), "forward", x)
    moved = {name: given.bytes_moved(name) / x.nbytes for name in calls.DIRECTIONS}
    assert moved == {"forward": forward, "backward": backward, "both": forward + backward}


def test_a_registered_operator_has_what_is_registered_beside_it(registered: None) -> None:
    def of(op: str, pooled: str | None = None) -> contenders.Contender | None:
        backend = Backend("mine", op=f"{NAMESPACE}::{op}", pooled=pooled)
        find = contenders.of_pooled if pooled else contenders.of_backend
        return find(backend, Path())

    family = getattr(torch.ops, NAMESPACE)
    assert of("forward") == contenders.Contender(
        "mine",
        family.forward.default,
        family.backward.default,
        family.forward_out.default,
        family.backward_out.default,
    )
    assert of("named_otherwise") == contenders.Contender("mine", family.named_otherwise.default)
    assert of("forward", f"{NAMESPACE}::pooled_forward") == contenders.Contender(
        "mine", family.pooled_forward.default
    )
    assert contenders.of_pooled(Backend("mine", op=f"{NAMESPACE}::forward"), Path()) is None


# --- whole runs


def settings_with(output: Path, *backends: Backend) -> Any:
    resolved = config.resolve({"output": str(output), "device": "cpu", "backends": ["torch"]})
    return dataclasses.replace(resolved, backends=(*resolved.backends, *backends))


def own(
    function: Callable[..., Any] | str, pooled: str | None = None, name: str = "mine"
) -> Backend:
    """Return a backend of one of this module's functions, or of a registered operator."""
    op = function if isinstance(function, str) else f"{__name__}:{function.__name__}"
    return Backend(name, op=op, pooled=pooled)


def run(output: Path, *backends: Backend, large: bool = False) -> dict[str, Any]:
    """Time without torch.compile."""
    names = [backend.name for backend in backends]
    return operators.time_operators(settings_with(output, *backends), ["torch", *names], large)


def rows_of(record: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in record["rows"] if wanted.items() <= row.items()]


def test_the_record_of_a_run(
    short: None, registered: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backend = own(f"{NAMESPACE}::forward", pooled=f"{NAMESPACE}::pooled_forward")
    record = run(tmp_path, backend)
    assert json.loads(json.dumps(record, allow_nan=False)) == {
        **record,
        "load": {key: list(v) if isinstance(v, tuple) else v for key, v in record["load"].items()},
    }
    assert (record["stage"], record["device"], record["threads"]) == ("timing operators", "cpu", 1)
    assert record["torch"] == torch.__version__
    assert record["method"] == {
        "rounds": 7,
        "block_seconds": 1e-4,
        "margin": 0.03,
        "confidence": 0.95,
    }
    assert (record["skipped"], record["compile_seconds"]) == ([], 0)
    assert len(record["load"]["before"]) == len(record["load"]["after"]) == 3
    assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    for row in record["rows"]:
        assert list(row) == list(ROW)
        for key, kind in ROW.items():
            of_a_ratio = key in ("ratio", "verdict", "ratios", "outliers")
            nothing = row["backend"] == "torch" and of_a_ratio
            assert isinstance(row[key], type(None) if nothing else kind), key
    found = Counter(
        (r["backend"], r["operation"], r["direction"], r["mode"]) for r in record["rows"]
    )
    ways = [
        (d, m) for d in calls.DIRECTIONS for m in ("allocated", "out") if (d, m) != ("both", "out")
    ]
    assert found == {
        **{(name, ACTIVATION, *way): 3 for name in ("torch", "mine") for way in ways},
        **{
            (name, POOLED, direction, "allocated"): 1
            for name in ("torch", "mine")
            for direction in calls.DIRECTIONS
        },
    }
    assert [entry["shape"] for entry in record["copy"][::3]] == [
        [512],
        [640],
        [2, 6, 4, 4],
        [2, 6, 4, 4],
    ]
    assert all(entry["bytes_per_second"] > 1e6 for entry in record["copy"])
    assert "activation [512] (1 of 4)" in capsys.readouterr().err


def test_who_calls_thirty_times_is_slower(
    short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "ROUNDS", 41)
    record = run(tmp_path, own(thirty_times))
    for direction in ("forward", "both"):
        for row in rows_of(record, backend="mine", direction=direction):
            assert row["verdict"] == "SLOWER", row
            assert row["ratio"]["low"] <= row["ratio"]["mean"] <= row["ratio"]["high"] < 0.9
            (torchs,) = rows_of(
                record,
                backend="torch",
                **{key: row[key] for key in ("shape", "values", "direction", "mode")},
            )
            assert torchs["ns_per_element"] < row["ns_per_element"]
            assert torchs["copy_percent"] > row["copy_percent"]


def test_graphs_are_compared_among_themselves_and_by_the_work_in_them(
    short: None, registered: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU: what would be captured is called as often."""

    def captured(call: calls.Call) -> calls.Call:
        def replay() -> None:
            for _ in range(32):
                call.function()

        return calls.Call("graph", call.via, replay, 32)

    monkeypatch.setattr(calls, "captured", captured)
    monkeypatch.setattr(comparison, "_has_graphs", lambda case, where: True)
    record = run(tmp_path, own(thirty_times), own(f"{NAMESPACE}::forward", name="other"))
    graphs = Counter((r["backend"], r["direction"]) for r in rows_of(record, mode="graph"))
    assert set(graphs.values()) == {3}
    assert set(graphs) == {
        *itertools.product(("torch", "other"), calls.DIRECTIONS),
        ("mine", "forward"),
        ("mine", "both"),
    }
    for row in rows_of(record, mode="graph", direction="forward"):
        same = {key: row[key] for key in ("backend", "shape", "values", "direction")}
        (eager,) = rows_of(record, mode="allocated", **same)
        assert 0.1 < row["ns_per_element"] / eager["ns_per_element"] < 10
        assert 0.1 < row["copy_percent"] / eager["copy_percent"] < 10
        assert (row["ratio"] is None) == (row["backend"] == "torch")
    assert "mine graph" in tables.as_text(record)


def test_an_operator_without_out_or_backward_has_no_such_rows(short: None, tmp_path: Path) -> None:
    record = run(tmp_path, own(thirty_times))
    assert {row["mode"] for row in rows_of(record, backend="torch")} == {"allocated", "out"}
    assert {row["mode"] for row in rows_of(record, backend="mine")} == {"allocated"}
    vias = {(row["direction"], row["via"]) for row in rows_of(record, backend="mine")}
    assert vias == {("forward", "operator"), ("backward", "autograd"), ("both", "autograd")}
    assert {row["operation"] for row in record["rows"]} == {ACTIVATION}
    text = tables.as_text(record)
    assert "torch out" in text
    assert "mine out" not in text


@pytest.mark.parametrize(
    ("function", "error", "directions"),
    [
        (raises, "ValueError: no GELU today", {*calls.DIRECTIONS}),
        (without_grad, "RuntimeError: element 0 of tensors", {"backward", "both"}),
        (raises_at_times, "RuntimeError: the twentieth", {"forward", "both"}),
    ],
)
def test_what_an_operator_raises_is_its_rows_and_the_others_go_on(
    short: None,
    tmp_path: Path,
    function: Callable[[Tensor], Tensor],
    error: str,
    directions: set[str],
) -> None:
    other = Backend("other", op="opproof.textbook:gelu")
    record = run(tmp_path, own(function), other)
    failed = [row for row in rows_of(record, backend="mine") if row["error"]]
    assert {row["direction"] for row in failed} >= directions
    assert all(row["error"].startswith(error) and "\n" not in row["error"] for row in failed)
    assert all(row["ratio"] is row["verdict"] is row["ns_per_element"] is None for row in failed)
    assert not [row for row in record["rows"] if row["error"] and row["backend"] != "mine"]
    assert len(rows_of(record, backend="other")) == 9
    assert f"ERROR: mine, activation: {error}" in tables.as_text(record)


@pytest.mark.parametrize("operation", [ACTIVATION, POOLED])
def test_a_backend_that_cannot_be_resolved_is_one_row(
    short: None, tmp_path: Path, operation: str
) -> None:
    pooled = f"{__name__}:absent" if operation == POOLED else None
    backend = own(thirty_times, pooled) if pooled else own(f"{__name__}:absent")
    record = run(tmp_path, backend)
    (row,) = [row for row in record["rows"] if row["error"]]
    assert list(row) == list(ROW)
    assert (row["backend"], row["operation"], row["shape"]) == ("mine", operation, None)
    assert "absent: AttributeError" in row["error"]
    assert row["error"] in tables.as_text(record)


def test_each_family_is_timed_against_its_own_reference(short: None, tmp_path: Path) -> None:
    """Named as the backend that is the reference, if there is one."""
    silu, mish = "torch.nn.functional:silu", "torch.nn.functional:mish"
    own_silu = {"op": f"{__name__}:own_silu", "reference": silu}
    backends: list[dict[str, str] | str] = [
        "python",
        {"name": "mine", **own_silu},
        {"name": "theirs", "op": silu, "reference": silu},
        {"name": "other", "op": mish, "reference": mish},
        {"name": "lost", "op": mish, "reference": f"{__name__}:absent"},
    ]
    settings = config.resolve({"output": str(tmp_path), "device": "cpu", "backends": backends})
    record = operators.time_operators(settings, [b.name for b in settings.backends], False)
    pairs = dict.fromkeys((row["baseline"], row["backend"]) for row in record["rows"])
    assert list(pairs) == [
        (f"{__name__}.absent", "lost"),
        ("torch", "torch"),
        ("torch", "python"),
        ("theirs", "theirs"),
        ("theirs", "mine"),
        ("other", "other"),
    ]
    for row in record["rows"]:
        assert bool(row["ratio"]) == (row["backend"] != row["baseline"] and not row["error"])
    (error,) = [row["error"] for row in record["rows"] if row["error"]]
    assert error.startswith(f"reference {__name__}:absent: AttributeError: ")


def own_silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def test_a_fault_of_the_machine_is_no_finding(short: None, tmp_path: Path) -> None:
    with pytest.raises(MemoryError):
        run(tmp_path, own(out_of_memory))


def test_a_name_that_is_not_in_the_settings(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"backend 'fsued': not in the settings; allowed: torch$"):
        operators.time_operators(settings_with(tmp_path), ["fsued"], False)


def test_what_does_not_fit_into_memory_is_skipped(
    short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cases, "LARGE_SIZES", (10**7, 10**8))
    monkeypatch.setattr(memory, "available", lambda where: 6 * 10**8)
    record = run(tmp_path, large=True)
    assert record["skipped"] == [
        {
            "operation": ACTIVATION,
            "shape": [size],
            "values": "normal",
            "reason": f"needs {size * 64 / 1e9:.1f} GB of memory, 0.6 GB are available",
        }
        for size in (10**7, 10**8)
    ]
    assert "Skipped: activation 100000000: needs 6.4 GB of memory" in tables.as_text(record)


def test_compile_is_one_more_row(
    short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cases, "plan", lambda *_, **__: [Case(ACTIVATION, (512,))])
    record = operators.time_operators(settings_with(tmp_path), None, False)
    rows = rows_of(record, backend="compile")
    assert {(row["direction"], row["error"]) for row in rows} == {
        (direction, None) for direction in calls.DIRECTIONS
    }
    assert record["compile_seconds"] > 0.01


COMMAND = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1].split()))
from opproof.timing import blocks, cases
cases.SIZES, cases._BATCHES, cases.VERY_NEGATIVE_SIZE, blocks.ROUNDS = (64,), (), 64, 6
from opproof.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


def test_the_command_needs_torch_and_numpy_alone(tmp_path: Path) -> None:
    settings = settings_with(tmp_path / "out", Backend("python", op="opproof.textbook:gelu"))
    settings.freeze()
    arguments = ["--config", str(settings.frozen_path), "--backend", "python"]
    absent = " ".join([*CONTROLLERS, "torchvision", "pynvml", "pandas"])
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, absent, "timing", "operators", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "timing" / "operators.json").read_text())
    assert {row["backend"] for row in record["rows"]} == {"torch", "python"}
    del record["digest"]
    assert done.stdout == tables.as_text(record) + "\n"
    header, first, second, third = done.stdout.splitlines()[2:6]
    assert header.split() == ["shape", "backend", *_columns()]
    assert first.split()[:2] == ["64", "torch"]
    assert second.split()[0] == "python"
    assert third.split()[:2] == ["torch", "out"]
    assert len({len(line) for line in (header, first, second)}) == 1


def _columns() -> list[str]:
    return [column for name in calls.DIRECTIONS for column in (name, "ns/el", "copy%")]


@pytest.mark.parametrize("arguments", [[], ["operator"]], ids=["none", "wrong"])
def test_the_kind_of_timing_must_be_said(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        __main__.main(["timing", *arguments])
    assert raised.value.code == 2
    assert "WHAT" in capsys.readouterr().err
