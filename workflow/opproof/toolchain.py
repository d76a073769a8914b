"""What compiles the libraries: versions that, when they change, call for another build.

Found without importing torch, so that the Snakefile can ask.
"""

import os
import re
import shlex
import shutil
import subprocess
from importlib import metadata
from pathlib import Path


def compiler() -> str | None:
    """Return the path of the C++ compiler that torch would call ($CXX or c++), None if missing."""
    return shutil.which(shlex.split(os.environ.get("CXX", "c++"))[0])


def nvcc() -> str | None:
    """Return the path of CUDA's compiler, in $CUDA_HOME or on the PATH; None if missing."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if home:
        return shutil.which(str(Path(home) / "bin" / "nvcc"))
    return shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


def cuda_home() -> str | None:
    """Return the folder of the CUDA toolkit that nvcc belongs to, None if there is no nvcc.

    nvcc itself says so: the one on the PATH may be a script or a link that lies elsewhere.
    """
    path = nvcc()
    if path is None:
        return None
    said = _run(path, "--dryrun", "-x", "cu", "-E", os.devnull).stderr
    match = re.search(r"^#\$ TOP=(.*)$", said, re.MULTILINE)
    return str(Path(match[1]).resolve()) if match else str(Path(path).resolve().parents[1])


def describe() -> dict[str, str | None]:
    """Return the versions of torch and compilers, None for what is missing."""
    return {"torch": torch_version(), "compiler": compiler_version(), "nvcc": nvcc_version()}


def torch_version() -> str:
    """Return the version of the installed torch."""
    return metadata.version("torch")


def compiler_version() -> str | None:
    """Return the first line of the compiler's --version, None if there is none."""
    return _version(compiler()).partition("\n")[0] or None


def nvcc_version() -> str | None:
    """Return CUDA's version as nvcc says it, such as "13.0", None if none works."""
    match = re.search(r"release (\d+\.\d+)", _version(nvcc()))
    return match and match[1]


def _version(path: str | None) -> str:
    return _run(path, "--version").stdout if path else ""


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:  # made for another machine
        return subprocess.CompletedProcess(command, 127, "", str(error))
