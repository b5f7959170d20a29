"""What the page asks of a project: its classes and photos, and a training.

In: names of classes, photos as bodies, and ids of photos. Out: JSON.
Why: everything that the page shows as done is on the disk.
Surprise: a photo that cannot be read, or that is there already, is an ordinary answer, since people drop whole folders.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from json import JSONDecodeError
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from regraft.errors import ImageError
from regraft.local_page.project import Project, ProjectError, to_dict
from regraft.local_page.project_training import ProjectTraining
from regraft.local_page.side_work import SideWork
from regraft.local_page.thumbnails import thumbnail_response

MOST_SHOWN = 2000
"""The most photos of a class that the page shows, the newest ones."""

Handler = Callable[[Request], Awaitable[Response]]


def routes(project: Project, training: ProjectTraining, work: SideWork) -> list[Route]:
    """Return the routes of a project."""
    return [*_classes(project, training, work), *_photos(project, work), _train(training, work)]


def _classes(project: Project, training: ProjectTraining, work: SideWork) -> list[Route]:
    async def state(_: Request) -> Response:
        classes = to_dict(await work.run(project.classes), MOST_SHOWN)
        trained = {"name": project.name, "trained": project.trained(), "training": asdict(training.progress)}
        return JSONResponse({"classes": classes, **trained})

    async def add(request: Request) -> Response:
        [name] = await _texts(request, "name")
        return JSONResponse({"name": await work.run(project.add_class, name)})

    async def rename(request: Request) -> Response:
        old, new = await _texts(request, "name", "to")
        return JSONResponse({"name": await work.run(project.rename_class, old, new)})

    async def remove(request: Request) -> Response:
        [name] = await _texts(request, "name")
        await work.run(project.remove_class, name)
        return JSONResponse({})

    return [
        Route("/page/project", _refusing(state)),
        Route("/page/project/classes", _refusing(add), methods=["POST"]),
        Route("/page/project/rename", _refusing(rename), methods=["POST"]),
        Route("/page/project/remove-class", _refusing(remove), methods=["POST"]),
    ]


def _photos(project: Project, work: SideWork) -> list[Route]:
    async def add(request: Request) -> Response:
        label, name = (request.query_params.get(key, "") for key in ("class", "file"))
        try:
            photo, before = await work.run(project.add_photo, label, await request.body(), name)
        except ImageError as error:
            return JSONResponse({"unreadable": str(error)})
        return JSONResponse({"photo": photo, "before": before})

    async def remove(request: Request) -> Response:
        [photo] = await _texts(request, "photo")
        await work.run(project.remove_photo, photo)
        return JSONResponse({})

    async def thumbnail(request: Request) -> Response:
        path = await work.run(project.photo, request.path_params["photo"])
        if path is None:
            raise HTTPException(404, "the project has no such photo")
        return await thumbnail_response(work, path)

    return [
        Route("/page/project/photos", _refusing(add), methods=["POST"]),
        Route("/page/project/photos/{photo}", _refusing(thumbnail)),
        Route("/page/project/remove-photo", _refusing(remove), methods=["POST"]),
    ]


def _train(training: ProjectTraining, work: SideWork) -> Route:
    async def train(_: Request) -> Response:
        await work.run(training.start)
        return JSONResponse(asdict(training.progress))

    return Route("/page/project/train", _refusing(train), methods=["POST"])


def _refusing(handler: Handler) -> Handler:
    """Return the handler, with a ProjectError as an answer with the status 409 and its code."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except ProjectError as error:
            return JSONResponse({"error": str(error), "code": error.code, "values": error.values}, 409)

    return handle


async def _texts(request: Request, *names: str) -> list[str]:
    """Return texts of the JSON object in the body of a request. Raises HTTPException 400 where one is missing."""
    try:
        document: Any = await request.json()
    except (JSONDecodeError, UnicodeDecodeError, RecursionError):
        document = None
    found = [document.get(name) if isinstance(document, dict) else None for name in names]
    texts = [text for text in found if isinstance(text, str) and not any("\ud800" <= c <= "\udfff" for c in text)]
    if len(texts) < len(names):
        raise HTTPException(400, f"wanted a JSON object with the texts {', '.join(names)}")
    return texts
