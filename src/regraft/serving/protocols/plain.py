"""The plain protocol: photos as the body or form of a POST; answers have the shape of those of `predict --json`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from regraft.classifiers.prediction import Prediction, PredictionReport
from regraft.errors import TooLargeError
from regraft.serving.batching import Answer
from regraft.serving.models import Model
from regraft.serving.openapi import BYTES, JSON, Described, Operation
from regraft.serving.service import Service, version_of
from regraft.serving.uploads import uploads_of

TOP = 5
"""The most classes in an answer."""


@dataclass(frozen=True, slots=True)
class PhotoAnswer(PredictionReport):
    """The answer to a photo: an element of what ``regraft predict --json`` prints, with two more values.

    Attributes:
        rejected: the same as ``none_of_these``.
        novelty: how unlike all training photos the photo is; null where that is not known.
    """

    rejected: bool = False
    novelty: float | None = None


_PREDICT = Operation(
    "Answer a photo, which is the body of the request, or the photos of a form.",
    "plain",
    takes={BYTES: None, "image/jpeg": None, "image/png": None},
    gives={JSON: PhotoAnswer | tuple[PhotoAnswer, ...]},
    query={"version": "The number of the version; missing for the newest."},
)


def routes(service: Service) -> list[Route]:
    """Return the routes of the plain protocol."""

    async def predict(request: Request) -> Response:
        model = service.model(request.path_params.get("name", ""), version_of(request.query_params.get("version")))
        request.scope["model"] = f"{model.name}/{model.version}"
        uploads = await uploads_of(request)
        answers = await service.answers(model, [data for _, data in uploads])
        found = [document_of(model, answer, Path(name)) for (name, _), answer in zip(uploads, answers, strict=True)]
        return JSONResponse(found if len(found) > 1 else found[0], status_of(answers))

    return [Described("POST", place, predict, _PREDICT) for place in ("/predict", "/predict/{name}")]


def status_of(answers: Sequence[Answer]) -> int:
    """Return the status of the answer to a request: an error where its only photo cannot be read."""
    if len(answers) > 1 or answers[0].error is None:
        return HTTPStatus.OK
    too_large = isinstance(answers[0].error, TooLargeError)
    return HTTPStatus.REQUEST_ENTITY_TOO_LARGE if too_large else HTTPStatus.UNPROCESSABLE_ENTITY


def document_of(model: Model, answer: Answer, path: Path) -> dict[str, Any]:
    """Return an answer as JSON values: those of `Prediction.to_dict`, with ``rejected``."""
    if answer.error is not None:
        return Prediction(path, error=str(answer.error)).to_dict()
    best = np.argsort(-answer.probabilities, kind="stable")[:TOP].tolist()
    novel = model.is_novel(answer.novelty)
    top = tuple((model.predictor.classes[j], float(answer.probabilities[j])) for j in best)
    novelty = None if math.isnan(answer.novelty) else answer.novelty
    return {**Prediction(path, top, novel, novelty=novelty).to_dict(), "rejected": novel}
