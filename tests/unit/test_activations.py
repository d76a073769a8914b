"""The headers of csrc/, without torch: sweep.cpp puts bit patterns through them."""

import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from opproof import toolchain
from opproof.paths import CSRC

SWEEP = Path(__file__).with_name("sweep.cpp")
HEADERS = ("scalar.h", "dtype.h", "activations/gelu.h", "activations/gelu_erf.h")

SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
# Neither how much is optimised nor the instructions may change a bit. Without one for it, fma is
# the C library's.
OPTIMISED = ("-O3", "-fopenmp-simd", "-fno-trapping-math", "-fno-math-errno")
BUILDS = {
    "sanitized": SANITIZED,
    "unoptimised": ("-O0",),
    "optimised": (*OPTIMISED, "-mfma") if platform.machine() == "x86_64" else OPTIMISED,
}

# Of gelu.h's float results at every STRIDE-th of the 2^32 patterns, any NaN as 0x7fc00000: SHA-256.
# They change with any change of a result. If one is meant: ./sweep bits value 251 | sha256sum
STRIDE = 251
DIGESTS = {
    "value": "70910b036d5f69e25c392ee8e844ebca350f945a4c86bf27406944f33b91cc67",
    "derivative": "025c1bff3b9939922f4ffeb3615198e4ec6a43ecd75ac33e67aebcc8c9a9744e",
    "second_derivative": "381861d98a845dd05644f1f27719553ff6c733474b1362f3af44fb0e9ce1605f",
}

# In units of the last place: within [-37, 37], and beyond, where doubles come from subnormals.
LIMITS = {
    "exp": (1.5, 1.5),
    "gelu.h value": (3.0, 3.0),
    "gelu.h derivative": (3.0, 3.0),
    "gelu.h second_derivative": (3.0, 3.0),
    "gelu.h double value": (8.0, 64.0),
    "gelu.h double derivative": (8.0, 64.0),
    "gelu.h double second_derivative": (8.0, 1000.0),
    # Absolute.
    "gelu_erf.h value": (1e-6, 1e-6),
    "gelu_erf.h derivative": (1e-6, 1e-6),
}


def start_compiling(program: Path, flags: tuple[str, ...], csrc: Path = CSRC) -> subprocess.Popen:
    # dtype.h names torch's dtypes, by headers alone.
    include = Path(torch.__file__).parent / "include"
    command = [toolchain.compiler() or "c++", "-std=c++17", "-ffp-contract=off", *flags]
    return subprocess.Popen([*command, f"-I{csrc}", f"-I{include}", SWEEP, "-o", program])


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sweep")
    programs = {name: folder / f"sweep{number}" for number, name in enumerate(BUILDS)}
    compiling = [start_compiling(programs[name], flags) for name, flags in BUILDS.items()]
    assert [process.wait() for process in compiling] == [0] * len(BUILDS)
    return programs


@pytest.fixture(scope="session")
def swept(programs: dict[str, Path]) -> dict[str, list[dict[str, float]]]:
    """The largest errors, as found by a program that would have stopped at undefined behaviour."""
    command = [programs["sanitized"], "check", "499"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize("of", LIMITS)
def test_no_result_is_further_from_the_truth_than_promised(
    swept: dict[str, list[dict[str, float]]], of: str
) -> None:
    within, beyond = LIMITS[of]
    assert swept.keys() == LIMITS.keys()
    for region in swept[of]:
        limit = within if abs(region["low"]) <= 37 and abs(region["high"]) <= 37 else beyond
        assert region["error"] <= limit, (of, region)
    assert max(region["error"] for region in swept[of]) > 0, "nothing was compared"


@pytest.mark.parametrize("function", DIGESTS)
@pytest.mark.parametrize("build", ["unoptimised", "optimised"])
def test_every_bit_is_as_it_was_however_compiled(
    programs: dict[str, Path], build: str, function: str
) -> None:
    command = [programs[build], "bits", function, str(STRIDE)]
    results = subprocess.run(command, capture_output=True, check=True).stdout
    assert len(results) == 4 * (2**32 // STRIDE + 1)
    assert hashlib.sha256(results).hexdigest() == DIGESTS[function]


FAULTS = {
    "NaN swallowed": (
        "activations/gelu.h",
        "float a = opproof::at_most(kLargest, opproof::magnitude(x));",
        "float a = opproof::magnitude_at_most(kLargest, x);",
        r"^gelu\.h, float: NaN gives ",
    ),
    "value_and_derivative apart": (
        "activations/gelu.h",
        "return {value_of(x, common), derivative_of(x, common)};",
        "return {value_of(x, common), 1.0f - derivative_of(-x, common)};",
        r"^gelu\.h, float: value_and_derivative\(\S+\) is \S+, \S+; apart they are \S+, \S+$",
    ),
    "zero's sign": (
        "activations/gelu.h",
        "x < 0.0f ? -0.0f : x);",
        "x < 0.0f ? 0.0f : x);",
        r"^gelu\(-inf\) is 0$",
    ),
    "ties away from even": (
        "dtype.h",
        "(b + 0x7fffu + (b >> 16 & 1u)) >> 16",
        "(b + 0x8000u) >> 16",
        r"^narrow to bfloat16: \S+ gives 0x\w+, not ",
    ),
    "subnormal half": (
        "dtype.h",
        "bits(from_bits(b) + 0.5f) - bits(0.5f)",
        "0u",
        r"^narrow to float16: \S+ gives 0x0000, not ",
    ),
    "overflow of an int": (
        "scalar.h",
        "from_bits(bits(n_plus_127) << 23)",
        "from_bits(static_cast<int32_t>(bits(n_plus_127)) << 23)",
        r"scalar\.h:\d+:\d+: runtime error: left shift ",
    ),
    "read beyond": (
        "activations/gelu.h",
        "float g = -0x1.96b84ap-4f;",
        "float two[2] = {-0x1.96b84ap-4f, 0}; float g = two[x == 0x1p20f ? 2 : 0];",
        r"gelu\.h:\d+:\d+: runtime error: index 2 out of bounds ",
    ),
}


@pytest.mark.parametrize(("header", "right", "wrong", "message"), FAULTS.values(), ids=FAULTS)
def test_a_wrong_header_is_found_and_said_where(
    tmp_path: Path, header: str, right: str, wrong: str, message: str
) -> None:
    csrc = shutil.copytree(CSRC, tmp_path / "csrc")
    text = (csrc / header).read_text()
    assert text.count(right) == 1
    (csrc / header).write_text(text.replace(right, wrong))
    flags = SANITIZED if "runtime error" in message else ("-O1",)
    assert start_compiling(tmp_path / "sweep", flags, csrc).wait() == 0
    command = [tmp_path / "sweep", "check", str(2**20)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert re.search(message, done.stderr, re.MULTILINE), done.stderr


def literals(text: str) -> Iterator[float]:
    """The float literals of a header or of what the fit prints, with their signs."""
    for hexadecimal, decimal in re.findall(
        r"(-?0x[0-9a-f.]+p[+-]\d+)f\b|(?<![\w.])(-?\d+\.\d+)f\b", text
    ):
        yield float.fromhex(hexadecimal) if hexadecimal else float(decimal)


def test_the_fit_gives_the_constants_of_the_headers() -> None:
    command = [sys.executable, CSRC / "activations" / "fit_gelu.py"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    fitted = list(literals(printed))
    headers = "".join((CSRC / name).read_text() for name in HEADERS)
    assert len(fitted) == 2 * 10 + 7 + 2 + 1 + 2, printed
    assert set(fitted) - set(literals(headers)) == set(), printed
