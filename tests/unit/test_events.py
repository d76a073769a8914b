from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from opproof import config, events

RANDOM = np.random.default_rng(0)


def curves(steps: int, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    return RANDOM.random(steps, np.float32), RANDOM.integers(0, 10_001, epochs) / 100


CURVES = {
    "a run": curves(9380, 10),
    "more steps than TensorBoard keeps": curves(12_000, 2),
    "stopped by NaN": (np.array([2.5, np.nan], np.float32), np.array([])),
    "stopped before its first step": (np.array([], np.float32), np.array([])),
    "large and small": (np.array([3e38, 1e-45, 0], np.float32), np.array([0.0, 100.0])),
}


@pytest.mark.parametrize(("loss", "accuracy"), CURVES.values(), ids=CURVES)
def test_tensorboard_reads_every_value(
    tmp_path: Path, loss: np.ndarray, accuracy: np.ndarray
) -> None:
    folder = tmp_path / "torch" / "seed-0"
    events.write(folder, "digest", loss, accuracy)
    scalars = read(folder)
    assert_curve(scalars.pop("Loss/Train", []), loss)
    assert_curve(scalars.pop("Accuracy/Test", []), accuracy.astype(np.float32))
    assert not scalars


def test_rewriting_replaces(tmp_path: Path) -> None:
    folder = tmp_path / "torch" / "seed-0"
    for loss, accuracy in (curves(5, 1), curves(7, 2)):
        events.write(folder, "digest", loss, accuracy)
    assert len(list(folder.glob("events.*"))) == 1
    assert [path.name for path in folder.parent.iterdir()] == ["seed-0"], "nothing set aside"
    assert_curve(read(folder)["Loss/Train"], loss)


def test_a_fault_in_writing_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "torch" / "seed-0"
    loss, accuracy = curves(5, 1)
    events.write(folder, "digest", loss, accuracy)
    with pytest.raises(NotImplementedError):
        events.write(folder, "other", loss[:2], np.array([None]))
    assert [path.name for path in folder.parent.iterdir()] == ["seed-0"]
    assert_curve(read(folder)["Loss/Train"], loss)


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


def test_folder(tmp_path: Path) -> None:
    settings = config.resolve({"output": str(tmp_path)})
    assert events.folder(settings, "mine", 7) == tmp_path / "tensorboard" / "mine" / "seed-7"


def read(folder: Path) -> dict[str, list[tuple[int, np.float32]]]:
    """Return step and value of all scalars, by tag."""
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        tag: [(event.step, np.float32(event.value)) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }


def assert_curve(scalars: list[tuple[int, np.float32]], expected: np.ndarray) -> None:
    assert [step for step, _ in scalars] == list(range(1, len(expected) + 1))
    np.testing.assert_array_equal([value for _, value in scalars], expected)
