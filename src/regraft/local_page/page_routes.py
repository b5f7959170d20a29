"""The routes of the page: the page itself, its files by fixed names, and what it asks about the server.

In: the models. Out: HTML, scripts, style and words from the package, and JSON.
Why: the page needs no build step, no other server, and no file but those of the package.
Surprise: the page shares its style, its elements and its words with the pages in one file (``reporting/page``). No path
ever comes from a request: a file is found by its name in a fixed table.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from regraft.backbones.side_by_side import parts_of
from regraft.classifiers.classifier import Classifier
from regraft.config.serving import ServeConfig
from regraft.exporting.formats.base import Artifact
from regraft.local_page import project_routes, try_routes
from regraft.local_page.explaining import Explanations
from regraft.local_page.project import Project
from regraft.local_page.project_training import ProjectTraining
from regraft.local_page.side_work import SideWork
from regraft.photos.images import Transform
from regraft.reporting.html_pages import report_module
from regraft.serving.models import Model
from regraft.serving.service import Service

_OURS = files("regraft.local_page") / "page"
_SHARED = files("regraft.reporting") / "page"
_LOOK = ("look.css", "look.js", "label.js", "correct.js", "corrections.js", "retrain.js")
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

_SCRIPTS = ("app.js", "api.js", "frame.js", "intake.js", "answers.js", "answers_csv.js", "try.js", "project.js")

STATIC = {
    **{name: _OURS / name for name in ("style.css", "icon.svg", *_SCRIPTS)},
    **{name: _OURS / name for name in _LOOK},
    **{name: _SHARED / name for name in ("page.css", "elements.js")},
}
"""The files of the page by their names below ``/static/``."""

WORDS = (_SHARED / "words.json", _OURS / "words.json", _OURS / "words_look.json")
"""The sentences of the page: those of the report, and its own. No key is in two of them."""


def routes(service: Service, config: ServeConfig, work: SideWork) -> list[Route]:
    """Return the routes of the page, whose slow work is done by ``work``.

    Raises:
        ConfigError: the project of ``config`` cannot be used.
    """
    explanations = Explanations()
    project = Project(config.new) if config.new else None
    training = project and ProjectTraining(project, service.models)

    async def about(_: Request) -> Response:
        models = service.models
        newest = [models.get(name) for name in models.names]
        for model in newest[:1]:
            explanations.begin(model)
        found = [_described(model, models.versions(model.name)) for model in newest]
        return JSONResponse({"models": found, "project": project and {"name": project.name}})

    return [
        Route("/", _index),
        Route("/static/{name}", _static),
        Route("/page/about", about),
        *try_routes.routes(service, work, explanations),
        *(project_routes.routes(project, training, work) if project and training else ()),
    ]


async def _index(_: Request) -> Response:
    return _file("text/html", (_OURS / "index.html").read_bytes())


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name == "words.json":
        return _file("application/json", words())
    if name == "report.js":
        return _file("text/javascript", report_module().encode())
    if name not in STATIC:
        raise HTTPException(404, "there is no such file")
    return _file(_TYPES[name.rpartition(".")[2]], STATIC[name].read_bytes())


def _file(kind: str, data: bytes) -> Response:
    return Response(data, media_type=kind, headers={"Cache-Control": "no-cache"})


@cache
def words() -> bytes:
    """Return the sentences of the page as JSON: by language, and then by key."""
    merged: dict[str, dict[str, str]] = {}
    for place in WORDS:
        for language, sentences in json.loads(place.read_text(encoding="utf-8")).items():
            merged.setdefault(language, {}).update(sentences)
    return json.dumps(merged, ensure_ascii=False).encode()


def _described(model: Model, versions: tuple[int, ...]) -> dict[str, Any]:
    """Return what the page says of a model, as JSON values."""
    return {
        "name": model.name,
        "versions": list(versions),
        "classes": list(model.predictor.classes),
        "is_run": isinstance(model.predictor, Classifier),
        "crop": _transform(model).crop,
    }


def _transform(model: Model) -> Transform:
    """Return the transform of a photo to what the network sees; of several networks, that of the last."""
    if isinstance(model.predictor, Artifact):
        return model.predictor.facts.transform
    assert isinstance(model.predictor, Classifier)  # noqa: S101 (`answerer_of` refuses all others)
    return parts_of(model.predictor.backbone)[-1].transform
