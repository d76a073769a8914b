"""Verification: its truth and arithmetic, and what it lets pass and refuses, and why."""

import dataclasses
import json
import math
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor

from opproof import __main__, artifact, config, library, verify
from opproof.verify import accuracy, checks, truth
from tests.unit import wrong_operators
from tests.unit.test_build import built
from tests.unit.wrong_operators import Composed

CPU = torch.device("cpu")
FLOAT32 = ["forward float32", "backward float32", "any layout float32"]
FLOAT64 = ["forward float64", "backward float64", "any layout float64"]
ACCURACY = [*FLOAT32, *FLOAT64]
LAYOUTS = ["any layout float32", "any layout float64"]
DERIVATIVES = ["gradcheck", "gradgradcheck"]
REGIONS = ["[0, 12]", "[-1, 0]", "[-3, -1]", "[-5, -3]", "[-12, -5]"]

pytestmark = pytest.mark.usefixtures("arithmetic")


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at fewer points: enough for faults as gross as these."""
    monkeypatch.setattr(accuracy, "_POINTS", {torch.float32: 100_001, torch.float64: 401})


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory)


@pytest.mark.parametrize("low, high", [(-12, 12), (-1, 0), (-1e-3, 1e-3)])
def test_truth_for_float32_has_thirteen_digits(low: float, high: float) -> None:
    x = random_points(low, high).astype(np.float32)
    observed, expected = truth.of_float32(x), many_digits(x)
    for direction in accuracy.DIRECTIONS:
        np.testing.assert_allclose(
            observed[direction], expected[direction], rtol=1e-13, atol=1e-16 * (high > 1)
        )


@pytest.mark.parametrize("low, high", [(-12, 12), (-0.7518, -0.7517), (-1e-300, 1e-300)])
def test_truth_for_float64_is_right_to_the_last_bit(low: float, high: float) -> None:
    x = random_points(low, high)
    observed, expected = truth.of_float64(x), many_digits(x)
    for direction in accuracy.DIRECTIONS:
        np.testing.assert_array_equal(observed[direction], expected[direction])


def test_truth_is_exact_at_zero() -> None:
    for of in (truth.of_float32, truth.of_float64):
        found = of(np.zeros(1))
        assert (found["forward"][0], found["backward"][0]) == (0.0, 0.5)


@pytest.mark.parametrize("direction", accuracy.DIRECTIONS)
@pytest.mark.parametrize(
    ("at", "ulps", "regions"),
    [
        (-12, 1, ["[-12, -5]"]),
        (-5, 4, ["[-12, -5]", "[-5, -3]"]),
        (-4, 3, ["[-5, -3]"]),
        (-3, -2, ["[-5, -3]", "[-3, -1]"]),
        (-1, 1, ["[-3, -1]", "[-1, 0]"]),
        (12, -7, ["[0, 12]"]),
    ],
)
def test_errors_are_counted_in_the_last_place_of_the_truth(
    monkeypatch: pytest.MonkeyPatch,
    direction: str,
    at: int,
    ulps: int,
    regions: list[str],
) -> None:
    exact = truth.of_float64(np.arange(-12.0, 13.0))[direction][at + 12]
    absolute = abs(ulps) * float(np.spacing(abs(exact)))
    found = errors_with(monkeypatch, direction, at, exact + ulps * np.spacing(abs(exact)))
    none = {"absolute": 0.0, "relative": 0.0, "ulp": 0.0}
    one = {"absolute": absolute, "relative": absolute / abs(exact), "ulp": abs(ulps)}
    assert found == {
        "max_absolute": absolute,
        "regions": {region: one if region in regions else none for region in REGIONS},
    }


@pytest.mark.parametrize("result", [math.nan, math.inf, -math.inf])
def test_errors_are_infinite_where_a_result_is_not_finite(
    monkeypatch: pytest.MonkeyPatch, result: float
) -> None:
    found = errors_with(monkeypatch, "forward", -2, result)
    assert found["max_absolute"] == math.inf
    assert [name for name, worst in found["regions"].items() if worst["absolute"]] == ["[-3, -1]"]
    assert found["regions"]["[-3, -1]"] == dict.fromkeys(("absolute", "relative", "ulp"), math.inf)


def test_errors_are_relative_to_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    found = errors_with(monkeypatch, "forward", -4, 0.0)
    assert found["regions"]["[-5, -3]"]["relative"] == 1.0


@pytest.mark.parametrize(("steps", "ulps"), [(0, 0), (3, 3), (-3, 3)])
def test_errors_of_float32_are_counted_in_places_of_float32(
    monkeypatch: pytest.MonkeyPatch, steps: int, ulps: int
) -> None:
    monkeypatch.setattr(accuracy, "_POINTS", {torch.float32: 25})
    exact = truth.of_float32(np.arange(-12, 13, dtype=np.float32))
    values = {name: torch.from_numpy(exact[name]).float() for name in accuracy.DIRECTIONS}
    place = np.spacing(np.abs(values["forward"].numpy()))
    moved = values["forward"] + steps * torch.from_numpy(place)
    activation = lookup({**values, "forward": moved})
    found = accuracy.errors(activation, torch.float32, CPU)["forward"]
    for worst in found["regions"].values():
        assert worst["ulp"] == pytest.approx(ulps, abs=0.5)


FOUR_EPS = {dtype: 4 * torch.finfo(dtype).eps for dtype in accuracy.DTYPES}


@pytest.mark.parametrize("dtype", accuracy.DTYPES, ids=str)
@pytest.mark.parametrize(
    ("error", "baseline", "close"),
    [
        (1.0, 0.0, True),
        (1.0, 0.4, True),
        (1.001, 0.4, False),
        (1.001, 0.51, True),
        (4.0, 2.0, True),
        (4.001, 2.0, False),
        (math.inf, 2.0, False),
        (math.nan, 2.0, False),
    ],
)
def test_an_error_may_be_four_eps_or_twice_that_of_f_gelu(
    dtype: torch.dtype, error: float, baseline: float, close: bool
) -> None:
    """Errors in units of 4 eps."""
    unit = FOUR_EPS[dtype]
    limit = checks.limit({"forward": {"max_absolute": baseline * unit}}, dtype, "forward")
    observed = {"forward": {"max_absolute": error * unit}}
    fault = checks.close_to_truth(observed, "forward", limit)
    assert (fault is None) == close
    assert close or fault == (
        f"the largest absolute error is {error * unit:.3g}, above {max(1, 2 * baseline) * unit:.3g}"
    )


@pytest.mark.parametrize(
    ("first", "second", "fault"),
    [
        (math.nan, math.nan, None),
        (0.0, -0.0, "forward: 10007 of 10007 results differ between two calls"),
        (1.0, 1.0 + 2**-23, "forward: 10007 of 10007 results differ between two calls"),
    ],
)
def test_results_are_compared_bit_by_bit(first: float, second: float, fault: str | None) -> None:
    results = iter((first, second))

    def activation(x: Tensor) -> Tensor:
        result = next(results)
        return Composed.apply(x, lambda x: torch.full_like(x, result), torch.ones_like)

    assert checks.repeatable(activation, CPU) == fault


@pytest.mark.parametrize("name", ["torch", "python", "cpp"])
def test_a_right_operator_passes(name: str, output: Path) -> None:
    record = verdict(name, output)
    gates = [*ACCURACY, *DERIVATIVES, *(["opcheck"] if name == "cpp" else []), "repeatable"]
    assert record["gates"] == dict.fromkeys(["usable", *gates], "pass")
    assert (record["verdict"], record["reasons"]) == ("pass", [])
    assert (record["expected"], record["expectation"]) == ("pass", None)
    assert record["gradient_mse"] < 5e-17
    assert set(record["accuracy"]) == set(record["baseline_accuracy"]) == {"float32", "float64"}
    assert (record["accuracy"] == record["baseline_accuracy"]) == (name == "torch")


@pytest.mark.parametrize("name", ["right", "by_erfc"])
def test_a_users_right_operator_passes(coarse: None, name: str) -> None:
    assert verdict({"name": "mine", "op": f"{wrong_operators.__name__}:{name}"})["reasons"] == []


def test_the_tanh_approximation_is_refused_as_expected() -> None:
    record = verdict("tanh")
    assert (record["verdict"], record["expected"]) == ("fail", "fail")
    assert record["expectation"] == "the tanh approximation is off by up to 5e-4"
    assert failed(record) == [*ACCURACY]
    assert "the largest absolute error is 0.000473, above " in record["reasons"][0]


WRONG = {
    "gradient_without_density": ([*FLOAT32[1:], *FLOAT64[1:], "gradcheck"], "is 0.242, above "),
    "gradient_zero": ([*FLOAT32[1:], *FLOAT64[1:], "gradcheck"], "is 1.13, above "),
    "gradient_not_differentiable": (["gradgradcheck"], "Jacobian mismatch"),
    "gradient_noisy": (["repeatable"], r"backward: \d{4} of 10007 results differ"),
    "grad_ignored": (["any layout float32"], r"shape \(1,\), strides \(1,\): backward: "),
    "noisy": (["repeatable"], r"forward: \d{4} of 10007 results differ"),
    "detached": (["usable"], "RuntimeError: .* does not require grad"),
    "without_grad": (["usable"], "RuntimeError: .* does not require grad"),
    "wrong_without_grad": (LAYOUTS, "forward without grad: "),
    "off_below_minus_five": (["forward float32", LAYOUTS[0]], r"is 1\.\d*e-05, above "),
    "without_tail": (ACCURACY, "is 12, above "),
    "wrong_beyond_twelve": (LAYOUTS, r"shape \(8,\), .*forward: "),
    "small_vectors_wrong": (LAYOUTS, r"shape \(1,\), strides \(1,\): forward: "),
    "strides_ignored": (LAYOUTS, r"strides \(60, 1, 15, 3\): forward: "),
    "input_overwritten": ([*LAYOUTS, "gradcheck", "repeatable"], "the input is overwritten$"),
    "buffer_reused": (LAYOUTS, "forward: the largest absolute error"),
    "in_float32": ([*FLOAT64, *DERIVATIVES], r"is \S+e-07, above \S+e-1[56]$"),
    "in_float64": (["usable"], "returns torch.float64 of shape .* for torch.float32"),
    "raises": (["usable"], "ValueError: no GELU today$"),
    "shorter": (["usable"], "returns torch.float32 of shape"),
    "none": (["usable"], "TypeError: returns NoneType, not a tensor$"),
    "nan": ([*ACCURACY, *DERIVATIVES], "is inf, above "),
    "relu": ([*ACCURACY, *DERIVATIVES], "is 0.17, above "),
    "not_callable": (["usable"], "op tests.unit.wrong_operators:not_callable: not callable$"),
    "missing": (["usable"], "op tests.unit.wrong_operators:missing: AttributeError"),
    "::without_rules": (["opcheck"], r"shape \(2, 3, 4, 5\), strides \(60, 20, 5, 1\): .*fake"),
    "::contiguous_only": ([*LAYOUTS, "opcheck"], r"strides \(60, 1, 15, 3\): .*not contiguous"),
}


@pytest.mark.parametrize(
    ("name", "gates", "reason"), [(name, *why) for name, why in WRONG.items()], ids=WRONG
)
def test_a_wrong_operator_is_refused_for_its_fault(
    coarse: None, name: str, gates: list[str], reason: str
) -> None:
    op = f"opproof_tests{name}" if "::" in name else f"{wrong_operators.__name__}:{name}"
    record = verdict({"name": "mine", "op": op})
    assert record["verdict"] == "fail"
    assert failed(record) == gates
    assert [fault.partition(": ")[0] for fault in record["reasons"]] == gates
    assert re.search(reason, record["reasons"][0])
    assert not [fault for fault in record["reasons"] if "\n" in fault]


@pytest.mark.parametrize("expected", ["pass", "fail"])
@pytest.mark.parametrize(("op", "found"), [("right", "pass"), ("raises", "fail")])
def test_a_verdict_is_written_beside_what_was_expected(
    coarse: None, op: str, found: str, expected: str
) -> None:
    record = verdict(
        {
            "name": "mine",
            "op": f"{wrong_operators.__name__}:{op}",
            "expect": {"verify": expected, "reason": "I say so"},
        }
    )
    assert (record["verdict"], record["expected"]) == (found, expected)
    assert record["expectation"] == "I say so"


def test_a_record_is_the_same_in_every_process_and_has_no_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused one at that, which verification ends well with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "my_operators.py").write_text("from torch.nn.functional import relu\n")
    contents = []
    for folder in ("here", "there"):
        (tmp_path / "config.yaml").write_text(
            f"{{output: {folder}, device: cpu, backends: [{{name: mine, op: my_operators:relu}}]}}"
        )
        command = ["verify", "--backend", "mine"]
        if folder == "here":
            assert __main__.main(command) == 0
        else:
            result = subprocess.run(
                [sys.executable, "-m", "opproof", *command], capture_output=True, text=True
            )
            assert result.returncode == 0
            assert result.stdout.startswith("mine: fail\nforward float32: the largest absolute")
        contents.append((tmp_path / folder / "verify" / "mine.json").read_text())
    assert contents[0] == contents[1]
    assert socket.gethostname() not in contents[0]
    assert str(tmp_path) not in contents[0]


@pytest.mark.parametrize(
    ("build", "status", "out", "err"),
    [
        (
            {"error": "gelu.cpp:3:1: error: no", "torch": torch.__version__},
            0,
            "cpp: fail\nusable: does not compile: gelu.cpp:3:1: error: no\n",
            "",
        ),
        ({"error": None, "torch": "2.3.4", "file": "x.so"}, 2, "", "built for torch 2.3.4, but"),
        (None, 2, "", "build.json: missing; run the pipeline or its stage first"),
    ],
    ids=["not compiled", "other torch", "not built"],
)
def test_a_library_that_does_not_compile_is_a_verdict_and_a_missing_one_is_not(
    coarse: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    build: dict[str, Any] | None,
    status: int,
    out: str,
    err: str,
) -> None:
    if build:
        artifact.write_json(library.record_path(tmp_path, "aten_gelu"), build)
    path = tmp_path / "config.yaml"
    path.write_text(f"{{output: '{tmp_path}', device: cpu, backends: [cpp]}}")
    assert __main__.main(["verify", "--config", str(path), "--backend", "cpp"]) == status
    said = capsys.readouterr()
    assert said.out == out
    assert err in said.err
    assert (tmp_path / "verify" / "cpp.json").exists() == (status == 0)


def test_numbers_that_json_lacks_are_written_as_words(coarse: None) -> None:
    record = verdict({"name": "mine", "op": f"{wrong_operators.__name__}:nan"})
    assert record["gradient_mse"] == "nan"
    assert record["accuracy"]["float32"]["forward"]["max_absolute"] == "inf"
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def verdict(backend: str | dict[str, Any], output: Path = Path()) -> dict[str, Any]:
    """Verify a backend, an entry of config.yaml, on the CPU; its op may be a registered one too."""
    entry = backend if isinstance(backend, str) else {**backend, "op": "users:own"}
    settings = config.resolve({"backends": [entry], "device": "cpu"})
    settings = dataclasses.replace(settings, output=str(output))
    chosen = settings.backends[0]
    if not isinstance(backend, str):
        chosen = dataclasses.replace(chosen, op=backend["op"])
    return verify.verify(settings, chosen)


def failed(record: dict[str, Any]) -> list[str]:
    return [gate for gate, result in record["gates"].items() if result == "fail"]


def errors_with(
    monkeypatch: pytest.MonkeyPatch, direction: str, at: int, result: float
) -> dict[str, Any]:
    monkeypatch.setattr(accuracy, "_POINTS", {torch.float64: 25})
    exact = truth.of_float64(np.arange(-12.0, 13.0))
    values = {name: torch.from_numpy(exact[name]) for name in accuracy.DIRECTIONS}
    values[direction][at + 12] = result
    return accuracy.errors(lookup(values), torch.float64, CPU)[direction]


def lookup(values: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """Return an activation that gives these results, whatever the input."""
    return lambda x: Composed.apply(
        x, lambda _: values["forward"].clone(), lambda _: values["backward"]
    )


def random_points(low: float, high: float) -> np.ndarray:
    return np.random.default_rng(0).uniform(low, high, 100)


def many_digits(x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the truth, the derivative being taken numerically: of no formula."""
    with mpmath.workdps(80):
        points = [mpmath.mpf(float(value)) for value in x]
        return {
            "forward": np.array([float(point * mpmath.ncdf(point)) for point in points]),
            "backward": np.array(
                [float(mpmath.diff(lambda t: t * mpmath.ncdf(t), point)) for point in points]
            ),
        }
