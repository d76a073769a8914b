"""Questions that are asked at once, each with a time after which it is given up."""

import concurrent.futures
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

_Answer = TypeVar("_Answer")


class NoAnswerError(Exception):
    """A question without an answer in time; the text says how long that was."""


class Question(Generic[_Answer]):
    """A call that is at work from now on, for so many seconds at most.

    In a daemon thread: a file system or a driver that hangs must not keep the process alive.
    """

    def __init__(self, ask: Callable[[], _Answer], seconds: float) -> None:
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._future: concurrent.futures.Future[_Answer] = concurrent.futures.Future()
        threading.Thread(target=self._work, args=(ask,), daemon=True).start()

    def answer(self) -> _Answer:
        """Return what the call returned, or raise what it raised.

        Raises NoAnswerError if it is still at work when its time is up.
        """
        left = max(0.0, self._deadline - time.monotonic())
        concurrent.futures.wait([self._future], timeout=left)
        if not self._future.done():
            raise NoAnswerError(f"no answer within {self._seconds:g} seconds")
        return self._future.result()

    def _work(self, ask: Callable[[], _Answer]) -> None:
        try:
            self._future.set_result(ask())
        except Exception as error:
            self._future.set_exception(error)
