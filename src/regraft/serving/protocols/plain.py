"""The plain protocol: a photo as the body of a POST, and an answer with the shape of an element of `predict --json`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from regraft.classifiers.prediction import Prediction
from regraft.serving.batching import Answer
from regraft.serving.models import Model
from regraft.serving.service import Service

TOP = 5
"""The most classes in an answer."""


def routes(service: Service) -> list[Route]:
    """Return the routes of the plain protocol."""

    async def predict(request: Request) -> Response:
        model = service.model(request.path_params.get("name", ""))
        [answer] = await service.answers(model, [await request.body()])
        document = document_of(model, answer, Path("photo"))
        return JSONResponse(document, 200 if answer.error is None else 422)

    return [Route("/predict", predict, methods=["POST"]), Route("/predict/{name}", predict, methods=["POST"])]


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
