"""Writes beside what goes on: a disk or a shared file system never keeps a GPU waiting."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any


class Writer:
    """Calls functions one after another in a thread of its own, while it is entered.

    One at a time is under way: who comes too early waits, and is told if the one before has failed.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._under_way: Future[Any] | None = None

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._thread.shutdown()
        if kind is None:
            self.wait()

    def submit(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call function(*arguments) soon. Raises what the call before has raised."""
        self.wait()
        self._under_way = self._thread.submit(function, *arguments)

    def wait(self) -> None:
        """Wait until nothing is under way. Raises what the last call has raised."""
        under_way, self._under_way = self._under_way, None
        if under_way:
            under_way.result()
