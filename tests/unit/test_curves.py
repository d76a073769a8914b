"""Curves of training: thinned to be drawn, and every step of them as Parquet."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet as arrow

from opproof import config
from opproof.errors import UserError
from opproof.settings import Settings
from opproof.summary import parquet
from opproof.summary.curves import Curves

BACKENDS = ("torch", "python")


def configured(seeds: int = 40, epochs: int = 2, batch_size: int = 64, **more: Any) -> Settings:
    train = {"epochs": epochs, "batch_size": batch_size}
    changes = {"backends": [*BACKENDS], "seeds": {"count": seeds}, "train": train, **more}
    return config.resolve(changes)


def run(settings: Settings, seed: int) -> dict[str, np.ndarray]:
    """Return a run whose loss falls from 2 + seed to near seed, the accuracy rises by epoch."""
    steps = settings.train.epochs * -(-60_000 // settings.train.batch_size)
    return {
        "loss": (seed + np.linspace(2, 0, steps)).astype(np.float32),
        "accuracy": 90 + np.arange(settings.train.epochs) + seed / 100,
    }


def taken(settings: Settings, seeds: int | None = None) -> dict[str, pd.DataFrame]:
    curves = Curves(settings)
    for backend in BACKENDS:
        for seed in settings.seeds[:seeds]:
            curves.add(backend, seed, run(settings, seed))
    return curves.frames()


def test_a_curve_has_200_points_that_are_the_means_of_equal_spans() -> None:
    settings = configured()
    loss = taken(settings)["loss"]
    one = loss[(loss.backend == "python") & (loss.seed == 3)]
    assert len(one) == 200
    assert (one.step.iloc[0], one.step.iloc[-1]) == (9, 1876)
    assert set(one.step.diff().dropna()) == {9, 10}
    whole = run(settings, 3)["loss"]
    assert one.loss.iloc[0] == pytest.approx(whole[:9].mean())
    assert one.loss.iloc[-1] == pytest.approx(whole[one.step.iloc[-2] :].mean())


def test_the_band_is_over_all_seeds_and_some_are_drawn() -> None:
    accuracy = taken(configured())["accuracy"]
    mean = accuracy[accuracy.seed.isna()]
    assert [*mean.backend] == ["torch"] * 2 + ["python"] * 2
    assert [*mean.epoch] == [1, 2] * 2
    [first, *_] = mean.to_dict("records")
    assert first["accuracy"] == pytest.approx(90.195, abs=1e-4)
    assert (first["low"], first["high"]) == pytest.approx((90.0195, 90.3705), abs=1e-4)
    drawn = accuracy[accuracy.seed.notna()].groupby("backend").seed.unique()
    assert {name: [*seeds] for name, seeds in drawn.items()} == {
        name: [*range(15)] for name in BACKENDS
    }


def test_one_seed_has_no_band() -> None:
    loss = taken(configured(), seeds=1)["loss"]
    assert loss[["low", "high"]].isna().all(axis=None)
    assert loss.loss.notna().all()


@pytest.mark.parametrize(
    ("epochs", "batch_size", "loss_points", "accuracy_points"),
    [(1, 60_000, 1, 1), (3, 60_000, 3, 3), (250, 60_000, 200, 200), (10, 64, 200, 10)],
)
def test_a_short_curve_has_all_its_points(
    epochs: int, batch_size: int, loss_points: int, accuracy_points: int
) -> None:
    frames = taken(configured(epochs=epochs, batch_size=batch_size), seeds=1)
    # The mean and a seed of each.
    assert len(frames["loss"]) == 2 * len(BACKENDS) * loss_points
    assert len(frames["accuracy"]) == 2 * len(BACKENDS) * accuracy_points


def test_many_backends_share_the_points() -> None:
    names = [{"name": f"b{number}", "op": "a:b"} for number in range(39)]
    curves = Curves(configured(seeds=2, backends=["torch", *names]))
    curves.add("b38", 0, run(configured(), 0))
    loss = curves.frames()["loss"]
    assert [*loss.backend.unique()] == ["b38"]
    assert len(loss) == 2 * 40


def test_without_runs_there_are_no_rows() -> None:
    frames = Curves(configured()).frames()
    assert [len(frame) for frame in frames.values()] == [0, 0]
    assert [*frames["loss"]] == ["backend", "seed", "step", "loss", "low", "high"]


def write(path: Path, settings: Settings) -> bytes:
    with parquet.writing(path, settings) as add:
        for backend in BACKENDS:
            for seed in settings.seeds:
                add(backend, seed, run(settings, seed))
    return path.read_bytes()


def test_every_step_is_in_the_parquet_file(tmp_path: Path) -> None:
    settings = configured(seeds=3, batch_size=600)
    content = write(tmp_path / "curves.parquet", settings)
    found = arrow.read_table(tmp_path / "curves.parquet").to_pandas()
    assert [*found] == ["backend", "seed", "step", "epoch", "loss", "accuracy"]
    assert len(found) == len(BACKENDS) * 3 * 200
    assert arrow.ParquetFile(tmp_path / "curves.parquet").num_row_groups == len(BACKENDS) * 3
    one = found[(found.backend == "python") & (found.seed == 2)]
    expected = run(settings, 2)
    assert [*one.step] == [*range(1, 201)]
    assert [*one.epoch] == [1] * 100 + [2] * 100
    assert np.array_equal(one.loss, expected["loss"])
    ends = one[one.accuracy.notna()]
    assert [*ends.step] == [100, 200]
    assert [*ends.accuracy] == [*expected["accuracy"]]
    assert content == write(tmp_path / "again.parquet", settings)


def test_a_run_that_failed_is_shorter(tmp_path: Path) -> None:
    settings = configured(batch_size=600)
    with parquet.writing(tmp_path / "curves.parquet", settings) as add:
        add("torch", 0, {"loss": np.ones(150, np.float32), "accuracy": np.array([90.0])})
        add("torch", 1, {"loss": np.ones(0, np.float32), "accuracy": np.array([])})
        add("python", 0, {"loss": np.ones(50, np.float32), "accuracy": np.array([])})
    found = arrow.read_table(tmp_path / "curves.parquet").to_pandas()
    assert [*found.groupby("backend", observed=True).size()] == [150, 50]
    assert [*found.step[found.accuracy.notna()]] == [100]


def test_a_parquet_file_is_whole_or_not_there(tmp_path: Path) -> None:
    settings = configured(seeds=1)
    with (
        pytest.raises(UserError),
        parquet.writing(tmp_path / "curves.parquet", settings) as add,
    ):
        add("torch", 0, run(settings, 0))
        raise UserError("interrupted")
    assert [*tmp_path.iterdir()] == []
