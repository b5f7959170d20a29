"""What every protocol of the server uses: the models, and answers to photos.

In: photos of a request, and the name and version of a model. Out: answers, or an HTTP error.
Why: limits, errors and metrics are the same for all protocols.
Surprise: a photo that cannot be read is an answer with an error, and not an error of the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from starlette.exceptions import HTTPException

from regraft.errors import ImageError
from regraft.foundation import console
from regraft.photos.unlabelled import Found
from regraft.serving.answering import Scaled
from regraft.serving.batching import QUEUE, Answer, Batches, FullError
from regraft.serving.limits import RETRY
from regraft.serving.loading import VERSION
from regraft.serving.metrics import Metrics
from regraft.serving.models import Model, Models, UnknownModelError

SECONDS = 60.0
"""The longest time in which the photos of a request are answered, in seconds, with the time in the queue."""


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """The models of a server, and the threads that answer.

    Attributes:
        models: the models by name and version.
        batches: the queue of photos and its threads.
        metrics: counts the answers.
    """

    models: Models
    batches: Batches
    metrics: Metrics

    def model(self, name: str = "", version: int | None = None) -> Model:
        """Return a model, as `Models.get` does. Raises HTTPException 404 where there is none."""
        try:
            return self.models.get(name, version)
        except UnknownModelError as error:
            raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from error

    async def answers(self, model: Model, photos: Sequence[Found | Scaled]) -> list[Answer]:
        """Return the answers of a model to the photos of a request, in their order.

        Raises:
            HTTPException: 413 for more photos than the queue has room for; 429 with Retry-After where the queue is
                full now; 500 where the network fails; 503 with Retry-After where the answers take too long.
        """
        require_room(len(photos))
        self.metrics.in_flight += len(photos)
        try:
            async with asyncio.timeout(SECONDS):
                answers = await self.batches.ask(model.answerer, photos)
        except FullError as error:
            busy = "the server is busy; send the request again"
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, busy, RETRY) from error
        except TimeoutError as error:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "the answer takes too long", RETRY) from error
        finally:
            self.metrics.in_flight -= len(photos)
        self.metrics.answers(model, answers)
        for answer in answers:
            if answer.error is not None and not isinstance(answer.error, ImageError):
                console.warn(str(answer.error))  # it may name files of this machine, which no client needs to know
                raise HTTPException(HTTPStatus.INTERNAL_SERVER_ERROR, "the network cannot be run")
        return answers


def version_of(text: str | None) -> int | None:
    """Return the number of a version in an address; None where the address names none. Raises HTTPException 404."""
    if not text:
        return None
    if not VERSION.fullmatch(text):
        raise HTTPException(HTTPStatus.NOT_FOUND, f"{text[:20]!r} is no version; wanted a whole number from 1")
    return int(text)


def require_room(photos: int) -> None:
    """Raise HTTPException 413 for more photos than the queue has room for. Call this before many of them are read."""
    if photos > QUEUE:
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"there are {photos} photos; wanted at most {QUEUE}")
