"""The plain protocol: photos as the body or form of a POST; answers have the shape of those of `predict --json`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from regraft.classifiers.prediction import Prediction
from regraft.errors import TooLargeError
from regraft.serving.batching import Answer
from regraft.serving.loading import VERSION
from regraft.serving.models import Model
from regraft.serving.openapi import BYTES, JSON, Described, Operation
from regraft.serving.service import Service
from regraft.serving.uploads import uploads_of

TOP = 5
"""The most classes in an answer."""


@dataclass(frozen=True, slots=True)
class ClassProbability:
    """A class and its probability."""

    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class PhotoAnswer:
    """The answer to a photo: an element of what ``regraft predict --json`` prints, with two more values.

    Attributes:
        path: the name of the photo.
        none_of_these: whether the answer is "none of these", since the photo is unlike all training photos; missing
            where there is an ``error``, as are all values below.
        top: the classes with the highest probabilities, the most probable first.
        rejected: the same as ``none_of_these``.
        novelty: how unlike all training photos the photo is; null where that is not known.
        error: the reason why the photo cannot be read; missing where it can be read.
    """

    path: str
    none_of_these: bool = False
    top: tuple[ClassProbability, ...] = ()
    rejected: bool = False
    novelty: float | None = None
    error: str = ""


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
        model = service.model(request.path_params.get("name", ""), version_of(request))
        request.scope["model"] = f"{model.name}/{model.version}"
        uploads = await uploads_of(request)
        answers = await service.answers(model, [data for _, data in uploads])
        found = [document_of(model, answer, Path(name)) for (name, _), answer in zip(uploads, answers, strict=True)]
        return JSONResponse(found if len(found) > 1 else found[0], status_of(answers))

    return [Described("POST", place, predict, _PREDICT) for place in ("/predict", "/predict/{name}")]


def version_of(request: Request) -> int | None:
    """Return the version in the query of a request; None where there is none. Raises HTTPException 404."""
    text = request.query_params.get("version")
    if text is None:
        return None
    if not VERSION.fullmatch(text):
        raise HTTPException(HTTPStatus.NOT_FOUND, "no version has such a number; wanted a whole number from 1")
    return int(text)


def status_of(answers: Sequence[Answer]) -> int:
    """Return the status of the answer to a request: an error where its only photo cannot be read."""
    if len(answers) > 1 or answers[0].error is None:
        return HTTPStatus.OK
    too_large = isinstance(answers[0].error, TooLargeError)
    return HTTPStatus.REQUEST_ENTITY_TOO_LARGE if too_large else HTTPStatus.UNPROCESSABLE_ENTITY


def document_of(model: Model, answer: Answer, path: Path) -> dict[str, Any]:
    """Return an answer as JSON values: those of `Prediction.to_dict`, with ``rejected`` and ``novelty``."""
    if answer.error is not None:
        return Prediction(path, error=str(answer.error)).to_dict()
    best = np.argsort(-answer.probabilities, kind="stable")[:TOP].tolist()
    threshold = model.predictor.threshold
    novel = threshold is not None and answer.novelty > threshold
    top = tuple((model.predictor.classes[j], float(answer.probabilities[j])) for j in best)
    novelty = None if math.isnan(answer.novelty) else answer.novelty
    return {**Prediction(path, top, novel).to_dict(), "rejected": novel, "novelty": novelty}
