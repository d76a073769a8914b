"""The command line: exit statuses, and one message where something is wrong, never a traceback."""

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import opproof
from opproof import artifact, paths
from opproof.__main__ import STAGES, main

WITH_CONFIG = {
    "data": [],
    "build": [],
    "verify": ["--backend", "torch"],
    "train": ["--backend", "torch"],
    "summary": [],
    "doctor": [],
    "tensorboard": [],
    "run": [],
}
MANY_FAULTS = """
backends: [torch, tochr]
seeds: [-1]
train: {epochs: 0, epoch: 1}
"""
MESSAGE = """opproof {}: config.yaml: the configuration has 4 faults:
  backends[1]: is 'tochr'; allowed: torch, python, cpp, erf, fused, pooled, tanh
  seeds[0]: is -1; allowed: an integer from 0 to 4294967295
  train.epoch: unknown key; allowed: epochs, batch_size, learning_rate; did you mean 'epochs'?
  train.epochs: is 0; allowed: an integer from 1 to 1000
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder that a command runs in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run `python -m opproof`."""
    return subprocess.run(
        [sys.executable, "-m", "opproof", *arguments],
        stdout=options.get("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_its_module_and_help(
    capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    assert importlib.import_module(f"opproof.{stage}").main
    with pytest.raises(SystemExit) as raised:
        main([stage, "--help"])
    assert raised.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: opproof {stage} [-h]")
    assert STAGES[stage] in " ".join(text.split())
    assert ("--config FILE" in text) == (stage in WITH_CONFIG)


def test_help_lists_the_stages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--help"])
    assert raised.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert all(f"{stage} {summary}" in text for stage, summary in STAGES.items())


def test_version() -> None:
    done = command("--version")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"opproof {opproof.__version__}\n",
        "",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "opproof: error: the following arguments are required: STAGE"),
        (["tarin"], "opproof: error: argument STAGE: invalid choice: 'tarin' (choose from "),
        (["verify"], "opproof verify: error: the following arguments are required: --backend"),
        (["data", "--conf", "x"], "opproof: error: unrecognized arguments: --conf x"),
        (["data", "more"], "opproof: error: unrecognized arguments: more"),
        (["data", "--config"], "opproof data: error: argument --config: expected one argument"),
        (
            ["train", "--backend", "torch", "--block", "x"],
            "opproof train: error: argument --block: invalid int value: 'x'",
        ),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("usage: opproof")
    assert output.err.splitlines()[-1].startswith(message)


@pytest.mark.parametrize(("stage", "options"), WITH_CONFIG.items(), ids=WITH_CONFIG)
def test_every_stage_names_all_faults_of_the_config(
    capsys: pytest.CaptureFixture[str], folder: Path, stage: str, options: list[str]
) -> None:
    (folder / "config.yaml").write_text(MANY_FAULTS)
    assert main([stage, *options]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", MESSAGE.format(stage))
    assert list(folder.iterdir()) == [folder / "config.yaml"]


def test_a_fault_is_one_message_and_no_traceback(folder: Path) -> None:
    (folder / "config.yaml").write_text(MANY_FAULTS)
    done = command("data")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", MESSAGE.format("data"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["data", "--config", "c.yaml"],
            "data: c.yaml: cannot be read: No such file or directory\n",
        ),
        (["data", "--config", "."], "data: .: cannot be read: Is a directory\n"),
        (["data", "--config", "broken.yaml"], "data: broken.yaml: not YAML: "),
        (
            ["data", "--config", "c.json"],
            "data: c.json: missing; run the pipeline or its stage first\n",
        ),
        (["data", "--config", "broken.json"], "data: broken.json: damaged: "),
        (
            ["check", "."],
            "check: summary.json: missing; run the pipeline or its stage first\n",
        ),
        (
            ["train", "--config", "right.yaml", "--backend", "cpp"],
            "train: backend 'cpp': not in the settings; allowed: torch\n",
        ),
        (
            ["build", "--config", "right.yaml", "--library", "gelu"],
            "build: library 'gelu': not in the settings; allowed: none\n",
        ),
        (
            ["train", "--config", "right.yaml", "--backend", "torch", "--block", "3"],
            "train: --block: is 3; allowed: 0 to 1\n",
        ),
        pytest.param(["data", "--config", "latin-1.yaml"], "data: latin-1.yaml: "),
        pytest.param(["data", "--config", "list.json"], "data: list.json: damaged: "),
        pytest.param(["data", "--config", "other.json"], "data: other.json: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_fault_is_told_with_status_2(
    capsys: pytest.CaptureFixture[str], folder: Path, arguments: list[str], message: str
) -> None:
    (folder / "right.yaml").write_text("backends: [torch]")
    (folder / "broken.yaml").write_text("a: [")
    (folder / "latin-1.yaml").write_bytes(b"output: r\xe9sultats")
    (folder / "broken.json").write_text("{")
    (folder / "list.json").write_text("[]")
    artifact.write_json(folder / "other.json", {"output": "x"})
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"opproof {message}")


def test_without_a_config_the_packages_own_is_read_and_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--backend", "mine"]) == 2
    told, fault = capsys.readouterr().err.splitlines()
    assert told == f"no config.yaml in this folder: settings of {paths.CONFIG}"
    allowed = "torch, python, cpp, fused, pooled"
    assert fault == f"opproof train: backend 'mine': not in the settings; allowed: {allowed}"


def test_a_config_that_is_a_broken_link_is_a_fault(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "config.yaml").symlink_to("moved.yaml")
    assert main(["data"]) == 2
    assert capsys.readouterr().err.startswith("opproof data: config.yaml: cannot be read: ")


def test_a_fault_of_the_system_is_told_with_status_2(folder: Path) -> None:
    (folder / "config.yaml").write_text("data: {folder: mnist, sources: [./absent]}")
    with Path("/dev/full").open("w") as full:
        done = command("data", stdout=full)
    assert done.returncode == 2
    assert done.stderr == "opproof data: [Errno 28] No space left on device\n"


def test_nothing_to_do_is_status_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "config.yaml").write_text("backends: [torch]")
    assert main(["build"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_verdict_that_fails_is_status_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact.write_json(folder / "summary.json", {"format": 0})
    assert main(["check", "."]) == 1
    output = capsys.readouterr()
    assert output.out.startswith("check failed: summary.json: ")
    assert output.err == ""


@pytest.mark.timeout(60)
def test_an_interrupt_is_status_130(folder: Path) -> None:
    os.mkfifo(folder / "config.yaml")  # read until somebody has written it
    process = subprocess.Popen(
        [sys.executable, "-m", "opproof", "data"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs, this one perhaps, ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with (folder / "config.yaml").open("w"):
        process.send_signal(signal.SIGINT)
        assert process.communicate() == ("", "opproof data: interrupted\n")
    assert process.returncode == 130


# Compute nodes have torch, numpy and scipy, and the controller's packages only by chance.
CONTROLLERS = ["jinja2", "jsonschema", "rich", "snakemake", "statsmodels", "tensorboard", "yaml"]


@pytest.mark.parametrize(
    ("stages", "absent"),
    [
        ("data", [*CONTROLLERS, "scipy", "torch", "torchvision"]),
        ("build verify train", [*CONTROLLERS, "scipy", "torchvision"]),
        ("check run", ["snakemake", "torch", "scipy", "rich"]),
    ],
)
def test_a_stage_starts_without_what_others_need(stages: str, absent: list[str]) -> None:
    code = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[2].split()))
from opproof.__main__ import main
for stage in sys.argv[1].split():
    try:
        main([stage, "--help"])
    except SystemExit as end:
        assert end.code == 0
"""
    command = [sys.executable, "-c", code, stages, " ".join(absent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
