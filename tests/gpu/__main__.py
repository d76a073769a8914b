"""`make gpu-check`: the tests of this folder, verification, and timings on this machine's GPU.

Writes one JSON of it all. Needs torch (2.11 or newer), numpy, pytest and nvcc; no network. Ends
with the status of what failed, 0 if nothing did.
"""

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from opproof import artifact, build, mnist, provenance, verify
from opproof.backends import BACKENDS, LIBRARIES
from opproof.settings import Build, DataSources, Settings, Training
from opproof.timing import operators as timing
from opproof.timing import tables, training, training_tables
from tests.gpu.conftest import OUTPUT

_FOLDER = Path(__file__).parent
_VERIFIED = ("torch", "cpp", "fused", "pooled")
_LIBRARIES = ("aten_gelu", "gelu", "gelu_step", "gelu_erf", "gelu_erf_step")
_BACKENDS = ("torch", "python", "cpp", "erf", "fused", "pooled")

# Quick, and touching each kind of access: compute-sanitizer slows everything down.
_SANITIZED = {
    "test_operators.py": "test_every_layout_and_dtype or test_pooled and not opcheck",
    "test_lenet_step.py": "test_trains_as_torch_does or test_predicts_as_torch_does",
}


def main() -> int:
    """Run everything; return 0 if all passed, else 1."""
    parser = argparse.ArgumentParser(prog="make gpu-check", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for all that is made")
    output = parser.parse_args().output
    if not torch.cuda.is_available():
        print("gpu-check needs a GPU that torch sees; there is none", file=sys.stderr)
        return 2
    os.environ[OUTPUT] = str(output.absolute())
    record: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
    record["provenance"] = provenance.of_job()
    steps = {
        "build": lambda: _build(output),
        "tests": lambda: _tests(output),
        "verify": lambda: _verify(output),
        "timing operators": lambda: _timing(output),
        "timing training": lambda: _timing_training(output),
        "sanitizer": _sanitizer,
    }
    for name, step in steps.items():
        print(f"gpu-check: {name}", flush=True)
        start = time.monotonic()
        record[name] = step()
        record[name]["seconds"] = round(time.monotonic() - start, 1)
        artifact.write_json(output / "gpu-check.json", record)
    failed = [name for name in steps if not record[name]["passed"]]
    outcome = f"failed: {', '.join(failed)}" if failed else "passed"
    print(f"gpu-check: {outcome}; {output}/gpu-check.json")
    return bool(failed)


def _build(output: Path) -> dict[str, Any]:
    records = {}
    for name in _LIBRARIES:
        build.build(LIBRARIES[name], Build("on", "8.0;9.0+PTX"), output)
        records[name] = artifact.read_json(output / "build" / name / "build.json")
    return {"passed": not any(record["error"] for record in records.values()), **records}


def _tests(output: Path) -> dict[str, Any]:
    report = output / "tests.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
    ]
    result = subprocess.run([*command, str(_FOLDER)], check=False)
    return {"passed": result.returncode == 0, "status": result.returncode}


def _verify(output: Path) -> dict[str, Any]:
    records = {name: verify.verify(_settings(output), BACKENDS[name]) for name in _VERIFIED}
    passed = all(record["verdict"] == "pass" for record in records.values())
    for name, record in records.items():
        print(f"{name}: {record['verdict']}", *record["reasons"], sep="\n  ")
    return {"passed": passed, **records}


def _timing(output: Path) -> dict[str, Any]:
    record = timing.time_operators(_settings(output), None, large=True)
    print(tables.as_text(record))
    return {"passed": not any(row["error"] for row in record["rows"]), **record}


def _timing_training(output: Path) -> dict[str, Any]:
    """Time training where MNIST is there; where it is not, say so."""
    settings = _settings(output)
    missing = [file.name for file in mnist.FILES if not _mnist(settings, file).exists()]
    if missing:
        reason = f"{settings.data.folder} has no {', '.join(missing)}"
        print(reason)
        return {"passed": True, "ran": False, "reason": reason}
    record = training.time_training(settings, None)
    print(training_tables.as_text(record))
    return {"passed": not any(row["error"] for row in record["rows"]), "ran": True, **record}


def _mnist(settings: Settings, file: mnist.IdxFile) -> Path:
    return Path(settings.data.folder) / file.name


def _sanitizer() -> dict[str, Any]:
    """Run some tests under compute-sanitizer; where it is missing, or can't run, say so."""
    program = shutil.which("compute-sanitizer") or shutil.which(
        "/usr/local/cuda/bin/compute-sanitizer"
    )
    if program is None:
        return {"passed": True, "ran": False, "reason": "compute-sanitizer is not installed"}
    results = {}
    for tool, (file, tests) in itertools.product(("memcheck", "racecheck"), _SANITIZED.items()):
        pytest = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        command = [program, "--tool", tool, "--error-exitcode", "86", *pytest, "-k", tests]
        result = subprocess.run(
            [*command, str(_FOLDER / file)], capture_output=True, text=True, check=False
        )
        lines = [
            line
            for line in result.stdout.splitlines()
            if "ERROR SUMMARY" in line or " passed" in line or "Error" in line
        ]
        results[f"{tool} {file}"] = {"status": result.returncode, "said": lines[-5:]}
        print(tool, file, *lines[-5:], sep="\n  ")
    return {"passed": all(r["status"] == 0 for r in results.values()), "ran": True, **results}


def _settings(output: Path) -> Settings:
    """Return settings without config.yaml, whose reading needs packages that may be missing."""
    return Settings(
        output=str(output),
        backends=tuple(BACKENDS[name] for name in _BACKENDS),
        libraries=tuple(LIBRARIES[name] for name in _LIBRARIES),
        build=Build("on", "8.0;9.0+PTX"),
        seeds=(0,),
        device="cuda",
        engine="graph",
        precision="fp32",
        timing=True,
        seeds_per_job=1,
        train=Training(epochs=10, batch_size=64, learning_rate=0.003),
        data=DataSources("resources/mnist", (), 20.0),
    )


if __name__ == "__main__":
    sys.exit(main())
