"""A bounded queue of photos, and the threads that answer them in batches.

In: photos of requests, from the event loop. Out: an `Answer` to each photo.
Why: under load one matrix product answers several photos, and a queue without a limit would fill the memory.
Surprise: a thread never waits for a batch to become full. It takes what is waiting, at most `Answerer.most` photos, so
that a single client waits no longer than without batches.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from regraft.errors import ImageError, RegraftError
from regraft.foundation.files import threads
from regraft.photos.unlabelled import Found
from regraft.serving.answering import Answerer, Decoded, Scaled

QUEUE = 256
"""The most photos that wait for a thread. A request that would exceed it is refused."""

_STOP_SECONDS = 2.0
"""The longest time to wait for each thread at the end, in seconds."""


class FullError(Exception):
    """The queue has no room for the photos of a request, which the client may send again later."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The answer to one photo of a request.

    Attributes:
        probabilities: ``(C,)`` float32; empty where there is an error.
        novelty: how unlike all training photos the photo is; NaN where the novelty is not known.
        error: why the photo has no answer; None where it has one.
    """

    probabilities: NDArray[np.float32]
    novelty: float
    error: RegraftError | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    answerer: Answerer
    photo: Found | Scaled
    future: asyncio.Future[Answer]
    since: float


class Batches:
    """The queue and its threads, which all models of a server share. Create it in the event loop that uses it.

    Args:
        workers: the number of threads; None for the number of cores.
        on_batch: called in the event loop with the number of photos of each batch.
    """

    def __init__(self, workers: int | None = None, on_batch: Callable[[int], None] = lambda _: None) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_batch = on_batch
        self._jobs: deque[_Job] = deque()
        self._condition = threading.Condition()
        self._stopped = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers or threads())]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """The number of photos that no thread has taken yet."""
        return len(self._jobs)

    async def ask(self, answerer: Answerer, photos: Sequence[Found | Scaled]) -> list[Answer]:
        """Return the answers to the photos of one request, in their order.

        A photo that nobody waits for any more is not answered.

        Raises:
            FullError: the queue has no room for so many photos.
            Exception: whatever the answerer raised that is no RegraftError.
        """
        jobs = [_Job(answerer, photo, self._loop.create_future(), monotonic()) for photo in photos]
        with self._condition:
            if len(self._jobs) + len(jobs) > QUEUE:
                raise FullError
            self._jobs.extend(jobs)
            self._condition.notify(len(jobs))
        try:
            return [await job.future for job in jobs]
        finally:
            for job in jobs:
                job.future.cancel()

    def stop(self) -> None:
        """End the threads after they have answered what is waiting."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()
        for thread in self._threads:
            thread.join(_STOP_SECONDS)

    def _work(self) -> None:
        while batch := self._next():
            try:
                answers: list[Answer] | Exception = _answered(batch)
            except Exception as error:  # each request of the batch raises it, and this thread goes on
                answers = error
            try:
                self._loop.call_soon_threadsafe(self._hand_over, batch, answers)
            except RuntimeError:  # the event loop has ended, and nobody waits for answers
                return
            del batch, answers  # a thread that waits holds no photo

    def _next(self) -> list[_Job]:
        """Wait for a photo, and return it with those of the same model that wait behind it; nothing at the end."""
        with self._condition:
            while not self._jobs and not self._stopped:
                self._condition.wait()
            share = min(self._jobs[0].answerer.most if self._jobs else 1, -(-len(self._jobs) // len(self._threads)))
            batch: list[_Job] = []
            while self._jobs and len(batch) < share and (not batch or self._jobs[0].answerer is batch[0].answerer):
                batch.append(self._jobs.popleft())
            return batch

    def _hand_over(self, batch: Sequence[_Job], answers: Sequence[Answer] | Exception) -> None:
        """Give the answers to the requests that wait for them: runs in the event loop."""
        self._on_batch(len(batch))
        for i, job in enumerate(batch):
            if job.future.done():
                continue
            if isinstance(answers, Exception):
                job.future.set_exception(answers)
            else:
                job.future.set_result(answers[i])


def _answered(batch: Sequence[_Job]) -> list[Answer]:
    """Return the answers to the photos of a batch, which are all for one model."""
    answers: dict[int, Answer] = {}
    decoded: dict[int, Decoded] = {}
    for i, job in enumerate(batch):
        if not job.future.cancelled():  # the client has gone
            try:
                decoded[i] = job.answerer.decode(job.photo)
            except ImageError as error:
                answers[i] = _failed(error)
    try:
        if decoded:
            found = batch[0].answerer.answer(list(decoded.values()))
            for i, row, novelty in zip(decoded, found.probabilities, found.novelty.tolist(), strict=True):
                answers[i] = Answer(row, novelty)
    except RegraftError as error:
        answers |= {i: _failed(error) for i in decoded}
    return [answers.get(i) or _failed(ImageError("nobody waits for the answer")) for i in range(len(batch))]


def _failed(error: RegraftError) -> Answer:
    return Answer(np.empty(0, np.float32), float("nan"), error)
