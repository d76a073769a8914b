"""What TensorBoard reads: events, and a file of them. Needs tensorboard."""

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_SCALAR, Summary
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.summary.writer.record_writer import RecordWriter


def write(path: Path, events: Iterable[Event]) -> None:
    """Write an event file. It is found by its name, in which "tfevents" must stand."""
    with path.open("wb") as file:
        writer = RecordWriter(file)
        # A run's first time is what the server sorts by, and by name where that is the same.
        version = Event(wall_time=0, file_version="brain.Event:2")
        for event in itertools.chain([version], events):
            writer.write(event.SerializeToString())


def scalars(
    tag: str, description: str, points: Iterable[tuple[int, float]], start: float | None = None
) -> Iterator[Event]:
    """Yield a curve of steps and values.

    With `start`, in seconds since 1970, the steps are seconds since then.
    """
    now = time.time()
    about = scalar_metadata.create_summary_metadata(display_name="", description=description)
    about.data_class = DATA_CLASS_SCALAR  # else the description is not read
    for step, value in points:
        entry = Summary.Value(tag=tag, simple_value=value, metadata=about)
        about = None  # TensorBoard keeps the first
        wall_time = now if start is None else start + step
        yield Event(wall_time=wall_time, step=step, summary=Summary(value=[entry]))


def hyperparameters(values: Mapping[str, str | float], failed: bool) -> Event:
    """Return what makes a run a row of the tab HPARAMS; its metrics are the last scalars there."""
    began = SessionStartInfo()
    for name, value in values.items():
        kind = "string_value" if isinstance(value, str) else "number_value"
        setattr(began.hparams[name], kind, value)
    ended = SessionEndInfo(status=STATUS_FAILURE if failed else STATUS_SUCCESS)
    entries = [
        Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(content))
        for tag, content in (
            (metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=began)),
            (metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=ended)),
        )
    ]
    return Event(wall_time=time.time(), summary=Summary(value=entries))


def graph(definition: bytes) -> Event:
    """Return what shows a serialised GraphDef in the tab GRAPHS."""
    return Event(wall_time=time.time(), graph_def=definition)
