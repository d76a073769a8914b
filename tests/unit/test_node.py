"""A job that was given a GPU which does not work: it ends before torch is imported."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from opproof import __main__, artifact, config, node
from opproof.errors import UserError

# No machine has it.
ABSENT = "63"

STAGES = {
    "verify": ["--backend", "torch"],
    "train": ["--backend", "torch", "--block", "0"],
    "timing": ["training"],
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a job runs in, with config.yaml; outside SLURM, given nothing."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("OPPROOF_FROZEN_CONFIG", raising=False)
    (tmp_path / "config.yaml").write_text("backends: [torch]")
    return tmp_path


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that is not loaded; the true one is asked by other tests here."""
    monkeypatch.setattr(node, "_driver_fault", lambda: "Driver Not Loaded")


@pytest.mark.parametrize(("stage", "options"), STAGES.items(), ids=STAGES)
@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS"])
def test_a_job_ends_before_it_imports_torch(stage: str, options: list[str], name: str) -> None:
    code = """
import sys
from opproof import __main__
status = __main__.main(sys.argv[1:])
print(status, "torch" in sys.modules)
"""
    # SLURM's variables alone do not say which: all are hidden from the driver then.
    given = {"CUDA_VISIBLE_DEVICES": ABSENT, name: ABSENT}
    done = subprocess.run(
        [sys.executable, "-c", code, stage, *options],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "2 False\n"
    assert done.stderr.startswith(f"opproof {stage}: no GPU: {name}={ABSENT} gives this job a GPU")
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("broken")
def test_it_says_where_and_what_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(UserError) as raised:
        node.require_gpu([])
    assert str(raised.value) == (
        "no GPU: CUDA_VISIBLE_DEVICES=0 gives this job a GPU, but the driver says: Driver Not "
        f"Loaded; on {socket.gethostname()} (SLURM_JOB_GPUS: not set, SLURM_STEP_GPUS: not set, "
        "CUDA_VISIBLE_DEVICES: 0); to compute on a CPU, set device: cpu"
    )
    assert not Path("results").exists()


@pytest.mark.usefixtures("broken")
def test_in_a_job_of_slurm_the_node_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_GPUS", "3")
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    Path("my.yaml").write_text("output: elsewhere")
    with pytest.raises(UserError) as raised:
        node.require_gpu(["operators", "--config", "my.yaml"])
    host, message = socket.gethostname(), str(raised.value)
    assert f"; on {host}, SLURM's node n1 (SLURM_JOB_GPUS: 3, SLURM_STEP_GPUS: not " in message
    assert message.endswith("is put on this run's list of bad nodes: a retry goes elsewhere")
    record = artifact.read_json(Path("elsewhere/state/bad-nodes/n1"))
    assert record["host"] == host
    assert record["why"].endswith("the driver says: Driver Not Loaded")


@pytest.mark.usefixtures("broken")
def test_a_list_that_cannot_be_written_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_GPUS", "3")
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    Path("results").touch()
    with pytest.raises(
        UserError, match=r"Driver Not Loaded.* come here again: .*cannot be written"
    ):
        node.require_gpu([])


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    ("text", "argv", "refused"),
    [
        ("device: auto", [], True),
        ("device: cuda", ["--backend", "x", "--config=config.yaml"], True),
        ("device: cpu", [], False),
        ("device: auto", ["--help"], False),
        ("device: auto", ["--config"], False),
        ("device: auto", ["--config", "absent.yaml"], False),
        ("device: gpu", [], False),
        ("[", [], False),
    ],
)
def test_a_gpu_that_is_not_to_be_used_is_not_asked_for(
    monkeypatch: pytest.MonkeyPatch, text: str, argv: list[str], refused: bool
) -> None:
    """Nor where the stage itself will say what is wrong."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    Path("config.yaml").write_text(text)
    if refused:
        with pytest.raises(UserError, match="no GPU"):
            node.require_gpu(argv)
    else:
        node.require_gpu(argv)


@pytest.mark.parametrize("value", [None, "", "-1", "NoDevFiles"])
def test_without_a_promise_the_driver_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.setattr(node, "_driver_fault", None)
    if value is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    node.require_gpu([])


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("stage", ["data", "build", "summary"])
def test_other_stages_need_no_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    Path("config.yaml").write_text("{backends: [torch], data: {folder: mnist, sources: [./none]}}")
    __main__.main([stage])
    assert "no GPU" not in capsys.readouterr().err


def test_settings_of_the_pipeline_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config.resolve({"device": "cpu"})
    settings.freeze()
    monkeypatch.setattr(node, "_driver_fault", lambda: "Driver Not Loaded")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("OPPROOF_FROZEN_CONFIG", str(settings.frozen_path))
    Path("config.yaml").write_text("device: cuda")
    node.require_gpu([])


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import time; nvmlInit = lambda: time.sleep(600)", "nothing for 0.5 seconds"),
        (
            "class NVMLError(Exception): pass\nclass NVMLError_LibraryNotFound(NVMLError): pass\n"
            "def nvmlInit(): raise NVMLError('Unknown Error')",
            "Unknown Error",
        ),
    ],
    ids=["stuck", "broken"],
)
def test_the_driver_is_asked_by_another_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, fault: str
) -> None:
    (folder / "pynvml.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(node, "_PATIENCE", 0.5 if "time" in code else 60)
    assert node._driver_fault() == fault
