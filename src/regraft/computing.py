"""Photos → feature rows, in threads that keep decoder and engine busy.

In: functions that decode a photo each, and an engine. Out: rows, or reasons why not, in the order they are done.
Why: decoding and inference take turns on the same cores, and neither may wait for the other.
Surprise: the first photo goes alone, since it builds and compiles the network; meanwhile the others decode ahead.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic, sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft._children import stop_children
from regraft._files import thread_limit
from regraft.accelerator import BATCH, AnyEngine, JaxEngine
from regraft.engine import Engine
from regraft.errors import ImageError
from regraft.images import Pixels

Loader = Callable[[], Pixels]
"""Returns a photo's transformed pixels, or raises ImageError."""

AHEAD_BYTES = 192 * 2**20  # what may be decoded before the engine is ready
PATIENCE = 0.5  # seconds: a user who pressed Ctrl-C is answered within one


def compute(loaders: Sequence[Loader], engine: AnyEngine) -> Iterator[tuple[int, NDArray[np.float32] | str]]:
    """Yield (index, features (D,), or the reason why not) for each photo as it is done, in any order.

    Each thread takes a photo all the way, from bytes to features. Decoding and
    inference both release the interpreter, so cores stay busy with no queue between two stages to balance; a
    few threads more than cores fill the gaps. While the engine is still being built, the threads decode ahead.

    Args:
        loaders: functions that return a photo's transformed pixels, or raise ImageError.
        engine: computes the features.
    """
    if isinstance(engine, JaxEngine):
        yield from _in_batches(loaders, engine)
        return
    workers = _Workers(loaders, engine)
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


def _in_batches(loaders: Sequence[Loader], engine: JaxEngine) -> Iterator[tuple[int, NDArray[np.float32] | str]]:
    """`compute` for an engine that takes batches: while one is at work the next ones are decoded."""
    at_work: tuple[list[int], Any] | None = None
    for batch in _decoding(loaders):
        decoded: list[tuple[int, Pixels]] = []
        for index, future in batch:
            try:
                decoded.append((index, future.result()))
            except ImageError as error:
                yield index, str(error)
        if decoded:
            launched = [i for i, _ in decoded], engine.launch(np.stack([pixels for _, pixels in decoded]))
            yield from _rows(at_work)
            at_work = launched
    yield from _rows(at_work)


def _decoding(loaders: Sequence[Loader]) -> Iterator[list[tuple[int, Future[Pixels]]]]:
    """Batches of photos that are being decoded, two more than the one that is yielded."""
    waiting: deque[list[tuple[int, Future[Pixels]]]] = deque()
    with ThreadPoolExecutor(thread_limit()) as pool:
        for start in range(0, len(loaders), BATCH):
            numbers = range(start, min(start + BATCH, len(loaders)))
            waiting.append([(i, pool.submit(loaders[i])) for i in numbers])
            if len(waiting) > 2:
                yield waiting.popleft()
        yield from waiting


def _rows(batch: tuple[list[int], Any] | None) -> Iterator[tuple[int, NDArray[np.float32]]]:
    if batch is not None:
        yield from zip(batch[0], np.asarray(batch[1]), strict=True)


class _Workers:
    """The threads behind `compute`. ``results`` gets each photo's result, an error of theirs, and None from each."""

    def __init__(self, loaders: Sequence[Loader], engine: Engine) -> None:
        self.results: queue.SimpleQueue[tuple[int, NDArray[np.float32] | str] | BaseException | None]
        self.results = queue.SimpleQueue()
        self._jobs, self._lock = iter(enumerate(loaders)), threading.Lock()
        self._engine = engine
        self._ahead: deque[tuple[int, Pixels]] = deque()
        self._stopped = threading.Event()
        self._first, self._runs = threading.Lock(), engine.started
        count = min(len(loaders), engine.workers)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]

    def start(self) -> int:
        """Start the threads; how many there are."""
        for thread in self._threads:
            thread.start()
        return len(self._threads)

    def stop(self, patience: float | None = None) -> None:
        """End the threads after the photos they are at, and wait for that.

        Args:
            patience: seconds after which a thread that compiles a network is waited for no longer, and in which child
                processes that threads wait for are ended; None to wait for everything.
        """
        self._stopped.set()
        end = monotonic() + (patience or 0.0)
        while patience is not None and any(thread.is_alive() for thread in self._threads) and monotonic() < end:
            stop_children()
            sleep(0.01)
        for thread in self._threads if patience is None else ():
            thread.join()
        self._threads = []

    def _work(self) -> None:
        try:
            for index, pixels in self._decoded():
                self._ahead.append((index, pixels))
                if not self._engine.starting or len(self._ahead) * pixels.nbytes > AHEAD_BYTES:
                    self._run_what_is_decoded()
            self._run_what_is_decoded()
        except BaseException as error:  # carried to the caller's thread, which raises it
            self.results.put(error)
        finally:
            self.results.put(None)

    def _decoded(self) -> Iterator[tuple[int, Pixels]]:
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
        while not self._stopped.is_set():
            try:
                index, pixels = self._ahead.popleft()
            except IndexError:  # another thread took the last
                return
            row = self._run(pixels)
            if row is not None:
                self.results.put((index, row))

    def _run(self, pixels: Pixels) -> NDArray[np.float32] | None:
        """Return the features of a photo; None where the threads were stopped while this one waited for its turn.

        The first photo goes alone: it builds and compiles the network, and where that fails no other thread tries.
        """
        if self._runs:
            return self._engine.run(pixels)
        with self._first:
            if self._stopped.is_set():
                return None
            try:
                row = self._engine.run(pixels)
            except BaseException:
                self._stopped.set()
                raise
            self._runs = True
            return row
