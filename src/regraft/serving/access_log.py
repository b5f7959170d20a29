"""The log of requests: lines of JSON on stderr, written by a thread.

In: a line for each request, from the event loop. Out: the lines, several at a time.
Why: where nobody reads stderr, a pipe fills up, and a server that wrote from its event loop would stop answering.
Surprise: lines are lost where stderr takes none for long: the newest `MOST` wait, and those before them are gone.
"""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from typing import Any

MOST = 10_000
"""The most lines that wait to be written."""

EVERY = 0.2
"""The time between two writes, in seconds."""


class AccessLog:
    """Writes lines in a thread.

    Args:
        descriptor: the file descriptor to write to.
    """

    def __init__(self, descriptor: int = 2) -> None:
        self._descriptor = descriptor
        self._lines: deque[str] = deque(maxlen=MOST)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._write_all, daemon=True)
        self._thread.start()

    def add(self, line: dict[str, Any]) -> None:
        """Add a line. JSON escapes all control characters, so that no name changes the user's terminal."""
        self._lines.append(json.dumps(line))

    def stop(self) -> None:
        """Write what is waiting, for at most a second."""
        self._stopped.set()
        self._thread.join(1)

    def _write_all(self) -> None:
        while not self._stopped.wait(EVERY):
            self._write()
        self._write()

    def _write(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        data = "".join(f"{line}\n" for line in lines).encode()
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:  # a stderr that is closed or full changes nothing
            pass
