"""What this process and its jobs write to the terminal, taken line by line."""

import os
import secrets
import sys
import threading
from collections.abc import Callable

_PATIENCE = 5.0  # seconds to wait at most for lines under way


class Capture:
    """Puts a pipe in the place of stdout and stderr, where they are a terminal.

    Jobs inherit it: a line of theirs, too, goes to `take`, called in a thread of its own.
    """

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._mark = f"\0{secrets.token_hex(8)}\n".encode()
        self._marked = threading.Event()
        self._terminals: dict[int, int] = {}

    def start(self) -> None:
        """Take what is written from now on."""
        _flush()
        source, self._pipe = os.pipe()
        for stream in (1, 2):
            if os.isatty(stream):
                self._terminals[stream] = os.dup(stream)
                os.dup2(self._pipe, stream)
        threading.Thread(target=self._read, args=[source], daemon=True).start()

    def drain(self) -> None:
        """Wait until all that has been written is taken."""
        _flush()
        self._marked.clear()
        os.write(self._pipe, self._mark)
        self._marked.wait(_PATIENCE)

    def stop(self) -> None:
        """Give the terminal back; what jobs that outlive this still write is taken as before."""
        self.drain()
        for stream, terminal in self._terminals.items():
            os.dup2(terminal, stream)
            os.close(terminal)
        os.close(self._pipe)

    def _read(self, source: int) -> None:
        with open(source, "rb") as lines:
            for line in lines:
                text, mark, _ = line.partition(self._mark)
                if text:
                    self._take(text.decode(errors="replace").rstrip("\r\n"))
                if mark:
                    self._marked.set()


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
