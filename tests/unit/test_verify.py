"""Verification: what it lets pass and refuses, for which reason, and what it writes down."""

import dataclasses
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from opproof import __main__, artifact, config, library
from opproof.verify import points
from opproof.verify.accuracy import name_of
from tests.conftest import REPOSITORY
from tests.unit import wrong_operators
from tests.unit.test_build import built
from tests.unit.verdicts import coarse, failed, verdict

__all__ = ["coarse"]

NAMES = [name_of(dtype) for dtype in points.DTYPES]
ALL = {name: [f"{what} {name}" for what in ("forward", "backward", "any layout")] for name in NAMES}
FLOAT32, FLOAT64, BFLOAT16, FLOAT16 = ALL.values()
ACCURACY = [*FLOAT32, *FLOAT64, *BFLOAT16, *FLOAT16]
LAYOUTS = [f"any layout {name}" for name in NAMES]
BACKWARD = [gate for gates in ALL.values() for gate in gates[1:]]
DERIVATIVES = ["gradcheck", "gradgradcheck"]
FINDINGS = [
    "bfloat16",
    "float16",
    "zeros",
    "infinities",
    "subnormal numbers",
    "largest numbers",
    "f(x) - f(-x) = x",
    "f'(x) + f'(-x) = 1",
    "monotone",
    "torch.compile",
    "vmap",
    "autocast",
    "equal bits, threads",
    "equal bits, alignment",
    "equal bits, layout",
    "equal bits, instruction sets",
]

pytestmark = pytest.mark.usefixtures("coarse")


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory)


@pytest.mark.parametrize("name", ["torch", "python", "cpp"])
def test_a_right_operator_passes(name: str, output: Path) -> None:
    record = verdict(name, output)
    opcheck = ["opcheck"] if name == "cpp" else []
    gates = [*ACCURACY, "NaN propagates", *DERIVATIVES, *opcheck, "repeatable"]
    assert record["gates"] == dict.fromkeys(["usable", *gates], "pass")
    assert (record["verdict"], record["reasons"]) == ("pass", [])
    assert (record["expected"], record["expectation"]) == ("pass", None)
    assert (record["claim"], record["thorough"]) == ({"max_ulp": None}, False)
    assert record["gradient_mse"] < 5e-17
    assert list(record["accuracy"]) == list(record["yardstick_accuracy"]) == NAMES
    assert list(record["findings"]) == list(record["yardstick_findings"]) == FINDINGS
    for what in ("accuracy", "findings"):
        assert (record[what] == record[f"yardstick_{what}"]) == (name == "torch")


@pytest.mark.parametrize("name", ["right", "by_erfc", "accurate", "narrow_raises"])
def test_a_users_right_operator_passes(name: str) -> None:
    assert verdict(mine(name))["reasons"] == []


def test_a_dtype_of_16_bits_that_is_not_supported_is_a_finding() -> None:
    record = verdict(mine("narrow_raises"))
    assert list(record["accuracy"]) == NAMES[:2]
    assert not [gate for gate in record["gates"] if "16" in gate]
    assert record["findings"]["bfloat16"] == {
        "holds": False,
        "detail": "not supported: NotImplementedError: not for torch.bfloat16",
    }


def test_the_tanh_approximation_is_refused_as_expected() -> None:
    """In 16 bits it is as good as another."""
    record = verdict("tanh")
    assert (record["verdict"], record["expected"]) == ("fail", "fail")
    assert record["expectation"] == "the tanh approximation is off by up to 5e-4"
    assert failed(record) == [*FLOAT32, *FLOAT64]
    assert "the largest absolute error is 0.000473, above " in record["reasons"][0]


WRONG = {
    "gradient_without_density": ([*BACKWARD, "gradcheck"], "is 0.242, above "),
    "gradient_zero": ([*BACKWARD, "NaN propagates", "gradcheck"], "is 1.13, above "),
    "gradient_not_differentiable": (["gradgradcheck"], "Jacobian mismatch"),
    "gradient_noisy": (
        ["repeatable"],
        r"backward: \d{4} of 10007 results differ between two",
    ),
    "grad_ignored": (
        ["any layout float32", "NaN propagates"],
        r"shape \(1,\), strides \(1,\): backward: ",
    ),
    "noisy": (["repeatable"], r"forward: \d{4} of 10007 results differ between two calls"),
    "racy": (["repeatable"], r"forward: \d+ of 10007 results differ when 8 threads call at once$"),
    "detached": (["usable"], "RuntimeError: .* does not require grad"),
    "without_grad": (["usable"], "RuntimeError: .* does not require grad"),
    "wrong_without_grad": (LAYOUTS, "forward without grad: "),
    "off_below_minus_five": (["forward float32", LAYOUTS[0]], r"is 1\.\d*e-05, above "),
    "without_tail": (ACCURACY, "is 12, above "),
    "uninitialised": (
        [*(gate for gate in ACCURACY if "back" not in gate), "NaN propagates", "gradcheck"],
        r"shape \(1,\), strides \(1,\): forward: 1 of 1 results are NaN, as memory is that is",
    ),
    "wrong_beyond_twelve": (LAYOUTS, r"shape \(8,\), .*forward: "),
    "small_vectors_wrong": (
        [*LAYOUTS, "NaN propagates"],
        r"shape \(1,\), strides \(1,\): forward: ",
    ),
    "narrow_small_vectors_wrong": (
        ["any layout float16", "NaN propagates"],
        r"shape \(1,\), .*forward: ",
    ),
    "narrow_wrong": (
        ["forward bfloat16", "any layout bfloat16"],
        r"error beyond correct rounding is 0\.0391, above 0.0312$",
    ),
    "strides_ignored": (LAYOUTS, r"strides \(60, 1, 15, 3\): forward: "),
    "input_overwritten": ([*LAYOUTS, "gradcheck", "repeatable"], "the input is overwritten$"),
    "buffer_reused": (
        [*LAYOUTS, "NaN propagates"],
        "forward: the largest absolute error",
    ),
    "nan_swallowed": (["NaN propagates"], "forward: float32 NaN becomes 0 "),
    "nan_gradient_swallowed": (["NaN propagates"], "backward: bfloat16 NaN becomes 0.5 "),
    "in_float32": ([*FLOAT64, *DERIVATIVES], r"is \S+e-07, above \S+e-1[56]$"),
    "in_float64": (["usable"], "returns torch.float64 of shape .* for torch.float32"),
    "raises": (["usable"], "ValueError: no GELU today$"),
    "shorter": (["usable"], "returns torch.float32 of shape"),
    "none": (["usable"], "TypeError: returns NoneType, not a tensor$"),
    "nan": ([*ACCURACY, "NaN propagates", *DERIVATIVES], "is inf, above "),
    "relu": ([*ACCURACY, "NaN propagates"], "is 0.17, above "),
    "not_callable": (["usable"], "op tests.unit.wrong_operators:not_callable: not callable$"),
    "missing": (["usable"], "op tests.unit.wrong_operators:missing: AttributeError"),
    "::without_rules": (["opcheck"], r"shape \(2, 3, 4, 5\), strides \(60, 20, 5, 1\): .*fake"),
    "::contiguous_only": ([*LAYOUTS, "opcheck"], r"strides \(60, 1, 15, 3\): .*not contiguous"),
    "::wrong_strides": (
        ["opcheck"],
        r"float32, shape \(2, 3, 4, 5\), strides \(60, 1, 15, 3\): forward: "
        r"strides \(60, 20, 5, 1\), but the fake says \(60, 1, 15, 3\)$",
    ),
}


@pytest.mark.parametrize(
    ("name", "gates", "reason"), [(name, *why) for name, why in WRONG.items()], ids=WRONG
)
def test_a_wrong_operator_is_refused_for_its_fault(
    name: str, gates: list[str], reason: str
) -> None:
    record = verdict(mine(name))
    assert record["verdict"] == "fail"
    assert failed(record) == gates
    assert [fault.partition(": ")[0] for fault in record["reasons"]] == gates
    assert [fault for fault in record["reasons"] if re.search(reason, fault)]
    assert not [fault for fault in record["reasons"] if "\n" in fault]


@pytest.mark.parametrize(
    ("op", "max_ulp", "reason"),
    [
        ("accurate", 1.0, None),
        ("tail_off_relatively", None, None),
        (
            "tail_off_relatively",
            3.0,
            r"forward on \[-12, -5\]: 1\.\d+e\+03 ULP at x = -\d+\.\d+, above the 3 claimed$",
        ),
        ("by_erfc", 3.0, r"forward on \[-3, -1\]: \d\.\d+ ULP at x = -\d\.\d+, above the 3 "),
        ("right", 3.0, r"forward on \[0, 12\]: [45]\.\d+ ULP at x = \d\.\d+, above the 3 claimed$"),
        (
            "derivative_off_at_root",
            1.0,
            r"backward near a root: off by 2\.\d+e-07 at x = -0\.\d+, above 1e-07$",
        ),
    ],
)
def test_a_claim_is_held_against_what_is_found(
    op: str, max_ulp: float | None, reason: str | None
) -> None:
    record = verdict(mine(op), max_ulp=max_ulp)
    assert record["claim"] == {"max_ulp": max_ulp}
    assert ("claim max_ulp" in record["gates"]) == (max_ulp is not None)
    assert failed(record) == (["claim max_ulp"] if reason else [])
    assert reason is None or re.match(f"claim max_ulp: {reason}", record["reasons"][0])


@pytest.mark.parametrize("expected", ["pass", "fail"])
@pytest.mark.parametrize(("op", "found"), [("right", "pass"), ("raises", "fail")])
def test_a_verdict_is_written_beside_what_was_expected(op: str, found: str, expected: str) -> None:
    record = verdict(
        {**mine(op), "expect": {"verify": expected, "reason": "I say so"}},
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
            code = "import sys; from tests.unit.verdicts import be_coarse; be_coarse()\n"
            code += f"from opproof.__main__ import main; sys.exit(main({command}))"
            result = subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])},
                capture_output=True,
                text=True,
            )
            assert result.returncode == 0
            assert result.stdout.startswith("mine: fail\nforward float32: the largest absolute")
        contents.append((tmp_path / folder / "verify" / "mine.json").read_text())
    assert contents[0] == contents[1]
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", contents[0])
    assert str(tmp_path) not in contents[0]


@pytest.mark.parametrize(
    ("build", "status", "out", "err"),
    [
        (
            {"error": "gelu.cpp:3:1: error: no", "torch": torch.__version__},
            0,
            "cpp: fail\nusable: cannot be built: gelu.cpp:3:1: error: no\n",
            "",
        ),
        (
            {"error": None, "torch": "2.3.4", "stable_abi": False, "file": "x.so"},
            2,
            "",
            "built for torch 2.3.4, but",
        ),
        (None, 2, "", "build.json: missing; run the pipeline or its stage first"),
    ],
    ids=["not compiled", "other torch", "not built"],
)
def test_a_library_that_does_not_compile_is_a_verdict_and_a_missing_one_is_not(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    build: dict[str, Any] | None,
    status: int,
    out: str,
    err: str,
) -> None:
    if build:
        artifact.write_json(library.record_path(tmp_path, "aten_gelu"), build)
    settings = config.resolve({"output": str(tmp_path), "device": "cpu", "backends": ["cpp"]})
    settings.freeze()  # as for a job: by hand it would be built
    path = str(settings.frozen_path)
    assert __main__.main(["verify", "--config", path, "--backend", "cpp"]) == status
    said = capsys.readouterr()
    assert said.out == out
    assert err in said.err
    assert (tmp_path / "verify" / "cpp.json").exists() == (status == 0)


@pytest.mark.parametrize("options", [[], ["--thorough"]])
def test_a_thorough_verification_takes_the_points_for_that(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
) -> None:
    monkeypatch.setattr(points, "THOROUGH", dataclasses.replace(points.USUAL, float64=121))
    path = tmp_path / "config.yaml"
    path.write_text(f"{{output: '{tmp_path}', device: cpu, backends: [torch]}}")
    assert __main__.main(["verify", "--config", str(path), "--backend", "torch", *options]) == 0
    record = artifact.read_json(tmp_path / "verify" / "torch.json")
    assert record["thorough"] == bool(options)
    worst = record["accuracy"]["float64"]["forward"]["regions"]["[-12, -5]"]["x"]
    steps = (worst + 5) / -7 * (120 if options else 80)
    assert steps == pytest.approx(round(steps))
    assert "\nfinding: infinities: f'(inf) = nan " in capsys.readouterr().out


def test_numbers_that_json_lacks_are_written_as_words() -> None:
    record = verdict(mine("nan"))
    assert record["gradient_mse"] == "nan"
    assert record["accuracy"]["float32"]["forward"]["max_absolute"] == "inf"
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def mine(name: str) -> dict[str, str]:
    """Return the entry of an operator of wrong_operators; "::NAME" is a registered one."""
    registered = name.startswith("::")
    return {
        "name": "mine",
        "op": f"opproof_tests{name}" if registered else f"{wrong_operators.__name__}:{name}",
    }
