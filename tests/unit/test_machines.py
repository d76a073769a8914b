"""A header gives the same bits however and for whatever it is compiled; kernels compile there."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from opproof import toolchain
from opproof.paths import CSRC
from tests import machines, needs

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).with_name("header_bits.cpp")
HEADERS = {
    path.name: path
    for folder in (CSRC / "activations", REPOSITORY / "examples", CSRC.parent / "workflow/starters")
    for path in sorted(folder.glob("*.h"))
}
OPTIMISED = ("-O3", "-fopenmp-simd", "-fno-trapping-math", "-fno-math-errno")
STRIDE = 20_011


@pytest.fixture
def aarch64() -> str:
    """The compiler for it, which with its emulator is there."""
    if fault := machines.missing():
        needs.skip_or_fail(f"{fault} is not there: aarch64 is NOT tested", machines.REQUIRED)
    return machines.COMPILER


def results(
    folder: Path, header: Path, compiler: str, *flags: str, emulator: tuple[str, ...] = ()
) -> str:
    """Return the digest of all results of a header, as compiled."""
    program = folder / "program"
    given = f'-DOPPROOF_ACTIVATION="{header}"'
    command = [compiler, "-std=c++17", "-ffp-contract=off", *flags, f"-I{CSRC}", given]
    subprocess.run([*command, str(SOURCE), "-o", str(program)], check=True)
    done = subprocess.run([*emulator, program, str(STRIDE)], capture_output=True, check=True)
    assert len(done.stdout) == 20 * (2**32 // STRIDE + 1)
    return hashlib.sha256(done.stdout).hexdigest()


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_gives_the_same_bits_on_aarch64(name: str, aarch64: str, tmp_path: Path) -> None:
    own = toolchain.compiler() or "c++"
    plain = results(tmp_path, HEADERS[name], own, "-O0")
    assert results(tmp_path, HEADERS[name], own, *OPTIMISED) == plain
    flags, emulator = (*OPTIMISED, "-static"), (machines.EMULATOR,)
    assert results(tmp_path, HEADERS[name], aarch64, *flags, emulator=emulator) == plain


@pytest.mark.parametrize("source", ["elementwise", "pooled", "lenet_step"])
def test_kernels_compile_for_aarch64(source: str, aarch64: str, tmp_path: Path) -> None:
    from torch.utils import cpp_extension

    include = [f"-I{path}" for path in (CSRC, *cpp_extension.include_paths())]
    given = ["-DOPPROOF_LIBRARY=opproof_gelu", '-DOPPROOF_ACTIVATION="activations/gelu.h"']
    stable = "-DTORCH_TARGET_VERSION=0x020b000000000000"
    flags = ["-std=c++20", "-fPIC", "-Wall", "-Werror", "-ffp-contract=off", *OPTIMISED, stable]
    object_file = tmp_path / "kernel.o"
    command = [aarch64, *flags, *given, *include, "-c", str(CSRC / f"{source}.cpp")]
    subprocess.run([*command, "-o", str(object_file)], check=True)
    # Its machine, in the header of ELF: 183 is aarch64.
    assert int.from_bytes(object_file.read_bytes()[18:20], "little") == 183
