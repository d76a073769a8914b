"""Two writers at once, and a world that changes meanwhile: results whole, and of one state."""

import json
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import torch

from opproof import artifact, lease
from opproof.train.state import RunRecord, RunState
from tests.processes import processes_with

from .conftest import Workspace, in_namespace, needs_root, started, wait_for

SEED = 20261123
KILLS = 50
VALUES = 200_000  # a checkpoint as large as the real one


def test_killed_while_it_writes_at_fifty_random_moments(tmp_path: Path) -> None:
    """Each attempt goes on from what the one before it has left, and writes until it is killed."""
    print(f"moments are random.Random({SEED})'s")
    moments = random.Random(SEED)
    last, in_mid_write = 0, 0
    for _ in range(KILLS):
        saved, save = os.pipe()
        pid = os.fork()
        if pid == 0:
            checkpoint_for_ever(tmp_path, save)
        os.close(save)
        os.read(saved, 1)
        time.sleep(moments.uniform(0, 0.02))
        os.kill(pid, signal.SIGKILL)
        os.close(saved)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL, "it ended by itself"
        state = RunState(tmp_path, "digest", 0)
        left = list(state.folder.glob("*")) if state.folder.exists() else []
        whole = [path for path in left if path.suffix == ".pt"]
        in_mid_write += any(f"-{pid}-" in path.name for path in left)
        assert len(left) - len(whole) <= 1, "an attempt removes what the one before it left"
        for path in whole:
            artifact.read_sealed(path)
        number = number_in(state)
        assert number > last
        last = number
    print(f"{in_mid_write} of {KILLS} in mid-write, {last} checkpoints")
    assert in_mid_write > KILLS / 5
    state.take_over(lease.take(tmp_path, tmp_path / "train"))
    state.save_record(RunRecord(None, {}, {}))
    assert sorted(path.name for path in state.folder.iterdir()) == ["run.json", "run.npz"]


def checkpoint_for_ever(output: Path, save: int) -> None:
    """Be an attempt that writes a byte to `save` after each checkpoint."""
    try:
        state = RunState(output, "digest", 0)
        state.take_over(lease.take(output, output / "train"))
        number = number_in(state)
        while True:
            number += 1
            # Made by numpy: torch would use threads, which a fork lacks.
            values = torch.from_numpy(np.full(VALUES, number, dtype=np.float32))
            state.save_checkpoint({"number": number, "values": values})
            os.write(save, b".")
    finally:
        os._exit(1)


def number_in(state: RunState) -> int:
    """Return the number of the checkpoint that a resume goes on from; 0 if there is none."""
    checkpoint = state.load_checkpoint()
    if checkpoint is None:
        return 0
    assert (checkpoint["values"].numpy() == checkpoint["number"]).all()
    return checkpoint["number"]


def test_an_orphan_stops_by_itself(verified_copy: Workspace, undisturbed: Workspace) -> None:
    """The controller is killed, and its trainer goes on while the next run trains the same."""
    workspace = verified_copy
    with started(workspace) as killed:
        wait_for(workspace, "results/state/leases/state/*/0.json")
        [orphan] = processes_with("python -m opproof train", workspace.folder)
        os.kill(orphan, signal.SIGSTOP)  # as slow as it takes: the other must meet it
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        # Its log, the name of which the next run gives to another file.
        with Path(f"/proc/{orphan}/fd/2").open() as log, started(workspace) as run:
            other = newest_attempt(workspace, than=orphan)
            os.kill(orphan, signal.SIGCONT)
            assert run.wait() == 0, workspace.printed()
            while Path(f"/proc/{orphan}").exists():
                time.sleep(0.05)
            *_, said = log.read().splitlines()
    host = os.uname().nodename
    assert f"another attempt has taken over (pid {other} on host {host}, since " in said
    assert said.startswith("opproof train: results/")
    assert not list(processes_with("opproof", workspace.folder))
    assert not [path for path in workspace.files() if path.endswith(".tmp")]
    assert workspace.results() == undisturbed.results()


def newest_attempt(workspace: Workspace, than: int) -> int:
    """Return the process that has taken over the block, once it is another than `than`."""
    while True:
        path = wait_for(workspace, "results/state/leases/train/torch/0.json")
        pid = json.loads(path.read_text())["pid"]
        if pid != than:
            return pid
        time.sleep(0.05)


@needs_root
def test_a_disk_that_fills_up_in_training(verified_copy: Workspace, undisturbed: Workspace) -> None:
    """It has room for one checkpoint; then, as the message asks for, for more."""
    state = verified_copy.folder / "results/state"
    state.mkdir()
    first = f'"$@" > printed 2>&1; cp -r {state} left; mount -o remount,size=64m {state}'
    run = in_namespace(verified_copy, f"mount -t tmpfs -o size=1000k tmpfs {state} && ({first})")
    path, _, rest = verified_copy.printed().partition("/checkpoint.pt: cannot be written: ")
    assert "opproof train: results/state/" in path
    assert rest.startswith("No space left on device (")
    need, _, free = rest.partition(" bytes needed, ")
    assert number_of(need.rpartition("(")[2]) > number_of(free.partition(" free)")[0]) > 0
    assert "Traceback" not in verified_copy.printed()
    [checkpoint] = verified_copy.folder.glob("left/*/0/*")
    artifact.read_sealed(checkpoint)
    assert run.returncode == 0, run.stdout
    assert "epoch 1/2" not in verified_copy.log("train/torch/0.log"), "it has resumed"
    assert verified_copy.results() == undisturbed.results()


def number_of(words: str) -> int:
    return int(words.replace(",", ""))


def test_an_edit_of_the_configuration_waits_for_the_next_run(
    verified_copy: Workspace, undisturbed: Workspace
) -> None:
    with started(verified_copy) as run:
        wait_for(verified_copy, "results/state/leases/train/torch/0.json")
        verified_copy.configure(seeds=[5, 6], backends=["torch"])
        assert run.wait() == 0, verified_copy.printed()
    assert verified_copy.results() == undisturbed.results()
    assert verified_copy.planned() == {"train": 2, "summary": 1, "check": 1, "all": 1}


def test_an_edit_of_the_code_is_refused_until_the_next_run(verified_copy: Workspace) -> None:
    """The job under way goes on with the code that it has; the one after it would have another."""
    verified_copy.configure(seeds=[0, 1], backends=["torch"])
    code = verified_copy.folder / "workflow/opproof/engines/graph.py"
    with started(verified_copy, "-c1") as run:
        wait_for(verified_copy, "results/state/leases/state/*/*.json")
        text = code.read_text()
        code.write_text(text.replace("ON_A_CPU = 250", "ON_A_CPU = 500"))
        assert code.read_text() != text
        assert run.wait() != 0
    words = "opproof train: the code of the stage train: edited after this run was planned"
    assert words in verified_copy.printed()
    assert "Traceback" not in verified_copy.printed()
    arrays = verified_copy.folder.glob("results/train/*/*/*.npz")
    assert len({path.parent.name for path in arrays}) == 1
    assert verified_copy.planned() == {"train": 2, "summary": 1, "check": 1, "all": 1}
