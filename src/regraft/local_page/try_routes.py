"""What the page asks when photos are tried: answers with the nearest training photos and the activation map.

In: a photo as the body of a POST. Out: JSON.
Why: an answer alone does not say why it was given.
Surprise: an export is answered as for programs. A run is answered in the threads of the page, since the features that
its answer comes from also find the nearest photos.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from regraft.classifiers.classifier import Classifier
from regraft.errors import ImageError, RegraftError
from regraft.local_page.explaining import Explained, Explanations
from regraft.local_page.side_work import SideWork
from regraft.local_page.thumbnails import thumbnail_response
from regraft.reporting.page_data import map_data
from regraft.serving.batching import Answer
from regraft.serving.models import Model
from regraft.serving.protocols.plain import document_of
from regraft.serving.service import Service, version_of


def routes(service: Service, work: SideWork, explanations: Explanations) -> list[Route]:
    """Return the routes that try photos."""

    async def answer(request: Request) -> Response:
        model, photo = model_of(service, request), await request.body()
        try:
            if isinstance(model.predictor, Classifier):
                with_map = request.query_params.get("map") == "1"
                found = await work.run(explanations.explain, model, photo, with_map)
            else:
                found = _plain(*await service.answers(model, [photo]))
        except ImageError as error:
            return JSONResponse({"unreadable": str(error)})
        except RegraftError as error:
            raise HTTPException(500, str(error)) from error
        return JSONResponse(_as_json(model, found))

    async def photo(request: Request) -> Response:
        model = model_of(service, request)
        record = explanations.photo(model, request.path_params["digest"])
        if record is None:
            raise HTTPException(404, f"{model.name} has no such training photo")
        return await thumbnail_response(work, record.path, record.part)

    return [
        Route("/page/try", answer, methods=["POST"]),
        Route("/page/photos/{digest}", photo),
    ]


def model_of(service: Service, request: Request) -> Model:
    """Return the model that ``model`` and ``version`` in the address name; the newest version where none is named.

    Raises:
        HTTPException: 404 where there is no such model or version.
    """
    return service.model(request.query_params.get("model", ""), version_of(request.query_params.get("version")))


def _plain(answer: Answer) -> Explained:
    """Return an answer without anything beside it. Raises its error where it has one."""
    if answer.error is not None:
        raise answer.error
    return Explained(answer.probabilities, answer.novelty)


def _as_json(model: Model, found: Explained) -> dict[str, Any]:
    """Return an answer as JSON values: that of the plain protocol, with what stands beside it."""
    answer = document_of(model, Answer(found.probabilities, found.novelty), Path("photo"))
    near = [
        {"digest": one.record.digest, "label": one.record.label, "similarity": one.similarity, "same": one.same}
        for one in found.near
    ]
    activation = found.activation and {
        **map_data(found.activation),
        "labels": [model.predictor.classes[i] for i in found.activation.classes],
    }
    return {"answer": answer, "near": near, "map": activation, "presence": found.presence, "why": found.reason}
