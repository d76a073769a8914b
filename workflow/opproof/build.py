"""The build stage: compiles a library once, ahead of time, for every job to load.

A source that does not compile is a finding about its backend, recorded in build.json; a machine
without a compiler or ninja is the user's to mend.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from opproof import arguments, artifact, library, toolchain
from opproof.backends import LIBRARIES
from opproof.errors import UserError
from opproof.paths import CSRC

# The same results whatever the compiler would fuse or assume; no flag that ties to one processor.
_FLAGS = ["-O3", "-ffp-contract=off"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `opproof build`."""
    arguments.add_config(parser)
    parser.add_argument(
        "--library", choices=sorted(LIBRARIES), help="compile this one (all that are needed)"
    )


def main(args: argparse.Namespace) -> int:
    """Build what is asked for; return 0, also when sources do not compile."""
    settings = arguments.read_settings(args)
    names = [args.library] if args.library else sorted(settings.libraries())
    for name in names:
        build(name, Path(settings.output))
    return 0


def build(name: str, output: Path) -> None:
    """Compile a library into output/build/NAME/ and record it in build.json beside it.

    Raises UserError where compiler or ninja are missing, or the folder can't be written.
    """
    _require_tools()
    sources = [CSRC / source for source in LIBRARIES[name]]
    record_path = library.record_path(output, name)
    # Compiled in a folder of this process's own: a killed build leaves nothing that the next one
    # could trip over, and two at once do not meet.
    with tempfile.TemporaryDirectory(prefix=f"opproof-{name}-") as folder:
        compiled, error = _compile(name, sources, Path(folder))
        record = _describe(name, sources, Path(folder), error)
        if compiled:
            content = compiled.read_bytes()
            record["sha256"] = artifact.write_bytes(record_path.parent / compiled.name, content)
    artifact.write_json(record_path, record)
    print(f"{name}: {error or 'built'}")


def _require_tools() -> None:
    # ninja installed by pip lies beside python, which need not be on the PATH.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    if toolchain.compiler() is None:
        wanted = os.environ.get("CXX", "c++")
        raise UserError(f"no C++ compiler: {wanted!r} is not on the PATH; install g++ or set CXX")
    if shutil.which("ninja") is None:
        raise UserError("ninja is not on the PATH; install it with: pip install ninja")


def _compile(name: str, sources: list[Path], folder: Path) -> tuple[Path | None, str | None]:
    """Return the library that was compiled and no error, or none and the compiler's first error."""
    from torch.utils import cpp_extension  # takes seconds to import

    # torch (2.11 to 2.14, at least) hands this path to the linker unquoted, and fails where it
    # holds a space. May go once torch quotes it, as it does those to the compiler.
    quoted = shlex.quote(cpp_extension.TORCH_LIB_PATH)
    try:
        with mock.patch.object(cpp_extension, "TORCH_LIB_PATH", quoted):
            cpp_extension.load(
                name=name,
                sources=[str(source) for source in sources],
                extra_cflags=[*_FLAGS, shlex.quote(f"-ffile-prefix-map={CSRC}=csrc")],
                build_directory=str(folder),
                is_python_module=False,
                extra_ldflags=["-Wl,-z,defs"],  # what is not defined fails here, not on loading
                verbose=False,
            )
    except subprocess.CalledProcessError as error:
        raise UserError(
            f"the C++ compiler {toolchain.compiler()} does not work: {error}"
        ) from error
    except RuntimeError as error:
        print(error)
        fault = _first_error(str(error))
        if fault is None:
            raise UserError(
                f"{name}: the compiler failed, not for a fault of the source"
            ) from error
        return None, fault.replace(f"{CSRC}{os.sep}", f"{CSRC.name}{os.sep}")
    return folder / f"{name}.so", None


def _first_error(output: str) -> str | None:
    """Return the line that says what is wrong with a source, and where; None if none is."""
    if re.search("No space left|Killed signal|out of memory|Cannot allocate", output):
        return None
    match = re.search(
        r"^.*?:\d+(:\d+)?: (fatal )?error: .*$|^.*(undefined reference|multiple definition).*$",
        output,
        re.MULTILINE,
    )
    return match.group().strip() if match else None


def _describe(name: str, sources: list[Path], folder: Path, error: str | None) -> dict[str, Any]:
    import torch

    commands = subprocess.run(
        ["ninja", "-C", folder, "-t", "commands"], capture_output=True, text=True, check=False
    ).stdout
    return {
        "library": name,
        "file": f"{name}.so",
        "error": error,
        "sha256": None,
        "sources": {source.name: artifact.file_digest(source) for source in sources},
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cxx11_abi": torch.compiled_with_cxx11_abi(),
        "compiler": toolchain.compiler_version(),
        "flags": _flags(commands),
        "cuda_arch_list": None,  # no CUDA source in it
    }


def _flags(commands: str) -> list[str]:
    """Return the compiler's flags out of ninja's commands, without the paths of this machine."""
    words = commands.split("\n")[0].split()
    return [word for word in words if re.match(r"-(D|O|f(?!file-prefix)|m|std|W)", word)]
