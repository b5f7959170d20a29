"""What every protocol of the server uses: the models, and answers to photos.

In: photos of a request, and the name and version of a model. Out: answers, or an HTTP error.
Why: limits, errors and metrics are the same for all protocols.
Surprise: a photo that cannot be read is an answer with an error, and not an error of the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.exceptions import HTTPException

from regraft.photos.unlabelled import Found
from regraft.serving.batching import Answer, Batches, FullError
from regraft.serving.models import Model, Models, UnknownModelError


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """The models of a server, and the threads that answer.

    Attributes:
        models: the models by name and version.
        batches: the queue of photos and its threads.
    """

    models: Models
    batches: Batches

    def model(self, name: str = "", version: int | None = None) -> Model:
        """Return a model, as `Models.get` does. Raises HTTPException 404 where there is none."""
        try:
            return self.models.get(name, version)
        except UnknownModelError as error:
            raise HTTPException(404, str(error)) from error

    async def answers(self, model: Model, photos: Sequence[Found]) -> list[Answer]:
        """Return the answers of a model to the photos of a request, in their order.

        Raises:
            HTTPException: 429 with Retry-After where the queue is full.
        """
        try:
            return await self.batches.ask(model.answerer, photos)
        except FullError as error:
            raise HTTPException(429, "the server is busy; send the request again", {"Retry-After": "1"}) from error
