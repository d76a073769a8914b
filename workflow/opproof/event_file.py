"""An event file of TensorBoard in a folder of its own: written whole or not at all, and of what."""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opproof import artifact

# Beside the event file: the digest of what it is of.
_DIGEST_FILE = "content.sha256"


@dataclass(frozen=True)
class EventFile:
    """The event file in `folder`, of `content` (as JSON); `events` are made when it is written."""

    folder: Path
    content: Any
    events: Callable[[], Iterable[Any]]

    def is_there(self) -> bool:
        """Say whether the folder holds the event file of this content."""
        mark = self.folder / _DIGEST_FILE
        return mark.exists() and mark.read_text() == artifact.json_digest(self.content)

    def write(self) -> None:
        """Write it, in place of what the folder holds."""
        from opproof import event_format  # takes a while, and not every job needs it

        # Written aside and renamed: a server that watches never sees half a run, nor one run twice.
        aside = artifact.temporary(self.folder)
        aside.mkdir(parents=True)
        try:
            # By another name each time: in a file that it knows a server reads on where it was.
            name = f"events.out.tfevents.{time.time_ns()}"
            event_format.write(aside / name, self.events())
            (aside / _DIGEST_FILE).write_text(artifact.json_digest(self.content))
            for before in (self.folder, *self._namesakes()):
                shutil.rmtree(before, ignore_errors=True)
            aside.rename(self.folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _namesakes(self) -> Iterator[Path]:
        """Yield the folders of the same number that a plan of fewer or more of them has padded."""
        kind, _, number = self.folder.name.partition("-")
        for folder in self.folder.parent.glob(f"{kind}-*"):
            if folder.name.partition("-")[2].lstrip("0") == number.lstrip("0"):
                yield folder
