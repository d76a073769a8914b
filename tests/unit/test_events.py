"""Event files by TensorBoard's own reader: what is in them, and when they are written."""

import dataclasses
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from opproof import config, events
from opproof.event_file import EventFile
from opproof.settings import Settings
from tests.unit import trained

RANDOM = np.random.default_rng(0)
EPOCHS = (97.5, 98.25)


def losses(steps: int) -> np.ndarray:
    return RANDOM.random(steps, np.float32)


RUNS = {
    "a run": (losses(9380), RANDOM.integers(0, 10_001, 10) / 100),
    "more steps than TensorBoard keeps": (losses(12_000), EPOCHS),
    "stopped by NaN": (np.array([2.5, np.nan], np.float32), ()),
    "stopped before its first step": (np.array([], np.float32), ()),
    "large and small": (np.array([3e38, 1e-45, 0], np.float32), (0.0, 100.0)),
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return config.resolve({"output": str(tmp_path), "seeds": {"count": 10}, "seeds_per_job": 1})


def of_run(settings: Settings, seed: int, loss: np.ndarray, **of_entry: Any) -> EventFile:
    entry, _ = trained.run(seed, loss)
    block = {"backend": "torch", **settings.plan()}
    return events.of_run(settings, block, {**entry, **of_entry}, lambda: loss)


def of_job(settings: Settings, number: int, samples: list[dict[str, Any]]) -> EventFile | None:
    block = trained.leave(settings, "torch", number, gpu_samples=samples)
    return events.of_job(settings, block, number)


@pytest.mark.parametrize(("loss", "accuracy"), RUNS.values(), ids=RUNS)
def test_every_value_of_a_run_is_there(
    settings: Settings, loss: np.ndarray, accuracy: np.ndarray
) -> None:
    averages = [value / 10 for value in accuracy]
    memory = {"epoch_peak_memory_bytes": [trained.MIB * (n + 7) for n in range(len(accuracy))]}
    of_epochs = {"accuracy": [*accuracy], "average_loss": averages, "measurements": memory}
    file = of_run(settings, 0, loss, **of_epochs)
    file.write()
    found = read(file.folder)
    for tag, expected in (
        ("Loss/Train", loss),
        ("Loss/Epoch", averages),
        ("Accuracy/Test", accuracy),
        ("Memory/Process", range(7, 7 + len(accuracy))),
    ):
        points = found.pop(tag, [])
        assert [step for step, _, _ in points] == list(range(1, len(expected) + 1))
        values = np.array([value for _, value, _ in points])
        np.testing.assert_array_equal(values, np.array(expected, np.float32))
    assert not found


def test_what_a_job_took_of_its_gpu(settings: Settings) -> None:
    samples = [
        {"seconds": 2, "utilisation_percent": 12.5, "memory_bytes": 3 * trained.MIB},
        {"seconds": 4, "utilisation_percent": None, "memory_bytes": trained.MIB / 2},
        {"seconds": 8, "utilisation_percent": 100.0, "memory_bytes": None},
    ]
    file = of_job(settings, 1, samples)
    assert file
    file.write()
    start = datetime.fromisoformat(trained.STARTED).timestamp()
    assert read(file.folder) == {
        "GPU/Utilisation": [(2, 12.5, start + 2), (8, 100, start + 8)],
        "GPU/Memory": [(2, 3, start + 2), (4, 0.5, start + 4)],
    }


def test_a_job_without_a_gpu_has_no_file(settings: Settings) -> None:
    assert of_job(settings, 0, []) is None
    block = {"backend": "torch", "measurements": {}}  # as of one that was not trained
    assert events.of_job(settings, block, 0) is None


def test_a_file_is_there_until_what_it_is_of_changes(settings: Settings) -> None:
    loss = losses(5)
    of_run(settings, 0, loss).write()
    assert of_run(settings, 0, loss).is_there()
    assert not of_run(settings, 1, loss).is_there()
    assert not of_run(settings, 0, loss, sha256="1" * 64).is_there()
    assert not of_run(settings, 0, loss, failure="because").is_there()
    other = dataclasses.replace(settings, engine="reference")
    assert not of_run(other, 0, loss).is_there()


def test_rewriting_replaces(settings: Settings) -> None:
    file = of_run(settings, 0, losses(5))
    file.write()
    (before,) = file.folder.glob("events.*")
    file = of_run(settings, 0, losses(7))
    file.write()
    (after,) = file.folder.glob("events.*")
    assert before.name != after.name, "a server that watches would go on in the middle"
    assert [path.name for path in file.folder.parent.iterdir()] == ["seed-0"], "nothing set aside"
    assert len(read(file.folder)["Loss/Train"]) == 7


def test_a_fault_in_writing_leaves_what_was_there(settings: Settings) -> None:
    file = of_run(settings, 0, losses(5))
    file.write()
    with pytest.raises(TypeError):
        of_run(settings, 0, losses(2), accuracy=["much"]).write()
    assert [path.name for path in file.folder.parent.iterdir()] == ["seed-0"]
    assert len(read(file.folder)["Loss/Train"]) == 5
    assert file.is_there()


@pytest.mark.parametrize(
    ("seeds", "names"),
    [
        ({"count": 10}, ["job-0", "seed-0", "seed-9"]),
        ({"count": 11}, ["job-00", "seed-00", "seed-10"]),
        ([4, 1234], ["job-0", "seed-0004", "seed-1234"]),
        ([0, 4294967295], ["job-0", "seed-0000000000", "seed-4294967295"]),
    ],
)
def test_names_are_padded_to_the_longest_that_is_planned(
    settings: Settings, seeds: Any, names: list[str]
) -> None:
    raw = {"output": settings.output, "seeds": seeds, "seeds_per_job": 1}
    settings = config.resolve(raw)
    job = of_job(settings, 0, [{"seconds": 1, "utilisation_percent": 1, "memory_bytes": 1}])
    assert job
    ends = [settings.seeds[0], settings.seeds[-1]]
    files = [job, *(of_run(settings, seed, losses(1)) for seed in ends)]
    assert [file.folder.name for file in files] == names
    assert files[0].folder.parent == Path(settings.output, "tensorboard", "torch")


def test_a_run_has_one_name_also_after_the_plan_has_grown(settings: Settings) -> None:
    for seed in (0, 1, 3):
        of_run(settings, seed, losses(2)).write()
    more = dataclasses.replace(settings, seeds=tuple(range(100)))
    for seed in (0, 1, 10):
        of_run(more, seed, losses(2)).write()
    backend = Path(settings.output, "tensorboard", "torch")
    assert sorted(path.name for path in backend.iterdir()) == [
        *["seed-00", "seed-01", "seed-10", "seed-3"]
    ]


@pytest.mark.parametrize(
    ("backends", "seeds", "written"),
    [(1, 29, 29), (1, 30, 30), (1, 31, 30), (3, 40, 10), (4, 40, 7), (30, 3, 1), (31, 3, 1)],
)
def test_training_writes_thirty_runs_alike_for_each_backend(
    backends: int, seeds: int, written: int
) -> None:
    first = 100
    names = [{"name": f"b{number}", "op": "a:b"} for number in range(backends)]
    settings = config.resolve({"backends": names, "seeds": {"first": first, "count": seeds}})
    chosen = [seed for seed in settings.seeds if events.always_written(settings, seed)]
    assert chosen == list(range(first, first + written))


def test_seeds_of_a_list_count_in_its_order() -> None:
    settings = config.resolve({"backends": ["torch"], "seeds": [*range(40, 0, -1)]})
    assert events.always_written(settings, 40)
    assert events.always_written(settings, 11)
    assert not events.always_written(settings, 10)


def read(folder: Path) -> dict[str, list[tuple[int, float, float]]]:
    """Return step, value and wall time of all scalars, by tag."""
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        tag: [(event.step, event.value, event.wall_time) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }
