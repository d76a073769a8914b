"""Every step of every run in one table, curves.parquet, for whoever analyses them further."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from opproof import artifact, mnist
from opproof.settings import Settings

_SCHEMA = pa.schema(
    {
        "backend": pa.dictionary(pa.int32(), pa.string()),
        "seed": pa.int64(),
        "step": pa.int32(),
        "epoch": pa.int32(),
        "loss": pa.float32(),
        "accuracy": pa.float64(),
    }
)


@contextmanager
def writing(
    path: Path, settings: Settings
) -> Iterator[Callable[[str, int, dict[str, np.ndarray]], None]]:
    """Give a function add(backend, seed, arrays) that appends a run, a row a step, from 1 on.

    The accuracy, in per cent, stands at the last step of its epoch, elsewhere it is null. A run is
    a row group: memory does not grow with their number. The file is there, whole, after the block.
    Raises OSError where it can't be written.
    """
    names = pa.array([backend.name for backend in settings.backends])
    numbers = {name: number for number, name in enumerate(names.to_pylist())}
    per_epoch = mnist.steps_per_epoch(settings.train.batch_size)
    with (
        artifact.writing(path) as file,
        parquet.ParquetWriter(
            file,
            _SCHEMA,
            compression="zstd",
            use_dictionary=["backend", "seed", "epoch"],
            column_encoding={
                "step": "DELTA_BINARY_PACKED",
                "loss": "BYTE_STREAM_SPLIT",
                "accuracy": "PLAIN",
            },
            write_statistics=["backend", "seed"],
        ) as writer,
    ):

        def add(backend: str, seed: int, arrays: dict[str, np.ndarray]) -> None:
            steps = len(arrays["loss"])
            step = np.arange(1, steps + 1, dtype=np.int32)
            columns = [
                pa.DictionaryArray.from_arrays(
                    np.full(steps, numbers[backend], dtype=np.int32), names
                ),
                np.full(steps, seed),
                step,
                (step - 1) // per_epoch + 1,
                arrays["loss"],
                _at_ends(arrays["accuracy"], steps, per_epoch),
            ]
            writer.write_table(pa.table(columns, schema=_SCHEMA), row_group_size=max(1, steps))

        yield add


def _at_ends(accuracy: np.ndarray, steps: int, per_epoch: int) -> pa.Array:
    """Return the accuracy of each epoch at its last step, null elsewhere."""
    values, absent = np.zeros(steps), np.ones(steps, dtype=bool)
    ends = np.arange(1, len(accuracy) + 1) * per_epoch - 1
    values[ends], absent[ends] = accuracy, False
    return pa.array(values, mask=absent)
