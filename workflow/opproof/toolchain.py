"""What compiles the libraries: versions that, when they change, call for another build.

Found without importing torch, so that the Snakefile can ask.
"""

import os
import shlex
import shutil
import subprocess
from importlib import metadata


def compiler() -> str | None:
    """Return the path of the C++ compiler that torch would call ($CXX or c++), None if missing."""
    return shutil.which(shlex.split(os.environ.get("CXX", "c++"))[0])


def describe() -> dict[str, str | None]:
    """Return the versions of torch and compiler, None for what is missing."""
    return {"torch": torch_version(), "compiler": compiler_version()}


def torch_version() -> str:
    """Return the version of the installed torch."""
    return metadata.version("torch")


def compiler_version() -> str | None:
    """Return the first line of the compiler's --version, None if there is no compiler."""
    path = compiler()
    if path is None:
        return None
    result = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return result.stdout.partition("\n")[0]
