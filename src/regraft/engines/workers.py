"""Photos to features, in threads that decode photos and run the network.

In: functions that decode one photo each, and a network that computes one photo at a time in each thread. Out: the
features of each photo, or the reason why it cannot be decoded, in the order in which the threads finish.
Why: decoding and inference share the same cores, and neither should wait for the other.
Surprise: the first photo runs alone, since it builds and compiles the network. Meanwhile the other threads decode.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from time import monotonic, sleep
from typing import Protocol

from regraft.engines.base import AHEAD_BYTES, Loader, Row
from regraft.errors import ImageError
from regraft.foundation.processes import stop_all
from regraft.photos.images import Pixels

PATIENCE = 0.5
"""How many seconds to wait for the threads after Ctrl-C, so that the process reacts within a second."""


class Network(Protocol):
    """The protocol of a network that computes one photo at a time and may be used by many threads."""

    @property
    def workers(self) -> int:
        """The number of threads that keep the processor busy."""
        ...

    @property
    def starting(self) -> bool:
        """Whether another thread is building or compiling the network now, so that `run` would have to wait."""
        ...

    @property
    def started(self) -> bool:
        """Whether the network is compiled, so that `run` does not have to wait."""
        ...

    def run(self, pixels: Pixels) -> Row:
        """Return the features of one transformed photo (size, size, 3). Raises BackboneError."""
        ...


def compute_in_threads(loaders: Sequence[Loader], network: Network) -> Iterator[tuple[int, Row | str]]:
    """Decode photos and compute their features in threads.

    Each thread decodes a photo and then computes its features. Decoding and inference both release the lock of the
    Python interpreter, so all cores stay busy without a queue between decoding and inference. There are a few more
    threads than cores, to use the time in which threads wait for files. While the network is built, the threads decode
    ahead.

    Args:
        loaders: for each photo a function that returns its transformed pixels, or raises ImageError.
        network: computes the features.

    Yields:
        For each photo its index in ``loaders``, and its features or the reason why it cannot be decoded. The order of
        the photos is not defined.

    Raises:
        BackboneError: the network cannot be built or run.
    """
    workers = _Workers(loaders, network)
    running = workers.start()
    try:
        while running:
            result = workers.results.get()
            if result is None:
                running -= 1
            elif isinstance(result, BaseException):
                raise result
            else:
                yield result
    except KeyboardInterrupt:
        workers.stop(PATIENCE)
        raise
    finally:
        workers.stop()


class _Workers:
    """The threads of `compute_in_threads`.

    Attributes:
        results: a queue with the result of each photo, with the error of a thread that failed, and with None from each
            thread when it ends.
    """

    def __init__(self, loaders: Sequence[Loader], network: Network) -> None:
        self.results: queue.SimpleQueue[tuple[int, Row | str] | BaseException | None]
        self.results = queue.SimpleQueue()
        self._jobs, self._lock = iter(enumerate(loaders)), threading.Lock()
        self._network = network
        self._ahead: deque[tuple[int, Pixels]] = deque()
        self._stopped = threading.Event()
        self._first, self._runs = threading.Lock(), network.started
        count = min(len(loaders), network.workers)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]

    def start(self) -> int:
        """Start the threads and return their number."""
        for thread in self._threads:
            thread.start()
        return len(self._threads)

    def stop(self, patience: float | None = None) -> None:
        """Let each thread finish its current photo, then end the threads and wait for them.

        Args:
            patience: the number of seconds to wait. During this time the child processes for which threads wait are
                ended. A thread that still compiles a network after that is left alone. None waits for all threads.
        """
        self._stopped.set()
        end = monotonic() + (patience or 0.0)
        while patience is not None and any(thread.is_alive() for thread in self._threads) and monotonic() < end:
            stop_all()
            sleep(0.01)
        for thread in self._threads if patience is None else ():
            thread.join()
        self._threads = []

    def _work(self) -> None:
        """Decode photos and compute their features until none is left: the body of each thread."""
        try:
            for index, pixels in self._decoded():
                self._ahead.append((index, pixels))
                if not self._network.starting or len(self._ahead) * pixels.nbytes > AHEAD_BYTES:
                    self._run_what_is_decoded()
            self._run_what_is_decoded()
        except BaseException as error:  # carried to the caller's thread, which raises it
            self.results.put(error)
        finally:
            self.results.put(None)

    def _decoded(self) -> Iterator[tuple[int, Pixels]]:
        """Yield the index and the pixels of the next photos, and put photos that cannot be decoded to the results."""
        while not self._stopped.is_set():
            with self._lock:
                index, loader = next(self._jobs, (-1, None))
            if loader is None:
                return
            try:
                yield index, loader()
            except ImageError as error:
                self.results.put((index, str(error)))

    def _run_what_is_decoded(self) -> None:
        """Compute the features of all photos that have been decoded ahead."""
        while not self._stopped.is_set():
            try:
                index, pixels = self._ahead.popleft()
            except IndexError:  # another thread took the last photo
                return
            row = self._run(pixels)
            if row is not None:
                self.results.put((index, row))

    def _run(self, pixels: Pixels) -> Row | None:
        """Return the features of a photo; None if the threads were stopped while this thread waited for the network.

        The first photo runs alone, because it builds and compiles the network. If that fails, no other thread tries.
        """
        if self._runs:
            return self._network.run(pixels)
        with self._first:
            if self._stopped.is_set():
                return None
            try:
                row = self._network.run(pixels)
            except BaseException:
                self._stopped.set()
                raise
            self._runs = True
            return row
