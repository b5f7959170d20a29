"""The routes of the page on which a classifier is looked at, corrected, and trained again.

In: requests of the page. Out: the report of a run, its corrections, trainings, and photos to label, as JSON.
Why: whoever sees a wrong label should mend it there and then, and see what it brings.
Surprise: what takes seconds is done in threads, and the page asks again until it is there (status 202).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from regraft.classifiers.classifier import Classifier
from regraft.errors import ConfigError, ImageError, RegraftError
from regraft.foundation import console
from regraft.local_page.correcting import Corrector, UnknownPhotoError, Wanted
from regraft.local_page.retraining import BusyError, Retraining
from regraft.local_page.run_reports import RunReports
from regraft.local_page.suggesting import Suggester, offer
from regraft.local_page.try_routes import model_of
from regraft.photos.dataset import ImageRecord
from regraft.photos.images import decode
from regraft.serving.models import Model
from regraft.serving.service import Service

VIEW = 480
"""The longer side of the picture of a photo that is labelled, in pixels."""

_QUALITY = 80  # of such a picture, as WebP
_MOST = 20_000  # bytes of a correction in JSON

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Labelling:
    """What the routes work with: see the classes."""

    service: Service
    corrector: Corrector
    reports: RunReports
    retraining: Retraining
    suggester: Suggester

    def stop(self) -> None:
        """Begin no further work for the page."""
        self.reports.stop()
        self.suggester.stop()


def labelling(service: Service, unlabelled: Sequence[str]) -> Labelling:
    """Return what the routes of a server work with.

    Args:
        service: the models.
        unlabelled: the folders of unlabelled photos.
    """
    corrector = Corrector()
    retraining = Retraining(service.models, corrector)
    return Labelling(service, corrector, RunReports(corrector), retraining, Suggester(unlabelled))


def routes(work: Labelling) -> list[Route]:
    """Return the routes of the page's sections Look and Label."""
    handlers: Sequence[tuple[str, str, Callable[[Labelling, Request], Any]]] = (
        ("/page/report", "GET", _report),
        ("/page/corrections", "GET", _news),
        ("/page/corrections", "POST", _correct),
        ("/page/retrain", "GET", _training),
        ("/page/retrain", "POST", _retrain),
        ("/page/next", "GET", _next),
        ("/page/next", "POST", _next),
        ("/page/views/{digest}", "GET", _view),
    )
    return [Route(path, partial(handler, work), methods=[method]) for path, method, handler in handlers]


async def _report(work: Labelling, request: Request) -> Response:
    """Answer with the data of a run's report, or with 202 while it is made."""
    making = await _done(work.reports.get, _run_of(work, request)[1])
    if not making.future.done():
        return JSONResponse({"photos": making.photos, "seconds": round(making.seconds, 1)}, 202)
    return Response(await _done(making.future.result), media_type="application/json")


async def _news(work: Labelling, request: Request) -> Response:
    """Answer with the corrections of a run after the first ``since``."""
    run = _run_of(work, request)[1]
    newest, from_run = _run_of(work, request, newest=True)
    found = await _done(work.corrector.news, run, from_run, _since(request))
    return JSONResponse({**found, "newest": newest.version})


async def _correct(work: Labelling, request: Request) -> Response:
    """Write a correction, and answer once it is on the disk."""
    run = _run_of(work, request)[1]
    values = await _document(request)
    if values.get("action") == "undo":
        row = await _done(work.corrector.undo, run, values.get("id", ""))
    else:
        wanted = Wanted(*(values.get(name, "") for name in ("action", "digest", "was", "label")))
        row = await _done(work.corrector.add, run, wanted, work.suggester.offered)
    return JSONResponse({"id": row.id}, 201)


async def _training(work: Labelling, _: Request) -> Response:
    """Answer with what is trained, or was trained last."""
    return JSONResponse(work.retraining.now.to_dict())


async def _retrain(work: Labelling, request: Request) -> Response:
    """Begin to train the next version of a model from its newest."""
    model, run = _run_of(work, request, newest=True)
    await _done(work.retraining.start, model, run)
    return JSONResponse(work.retraining.now.to_dict(), 202)


async def _next(work: Labelling, request: Request) -> Response:
    """Answer with the photos to label next, or with 202 while they are chosen; POST has them chosen anew."""
    run = _run_of(work, request)[1]
    if not work.suggester.has_photos:
        return JSONResponse({"photos": [], "candidates": 0, "none": True})
    batch = await _done(work.suggester.get, run, request.method == "POST")
    if not batch.future.done():
        return JSONResponse({"seconds": round(batch.seconds, 1)}, 202)
    found = await _done(batch.future.result)
    problems = [{"path": one.path.name, "reason": one.reason} for one in found.problems]
    photos = [offer(one) for one in found.photos]
    return JSONResponse({"photos": photos, "candidates": found.candidates, "known": found.known, "problems": problems})


async def _view(work: Labelling, request: Request) -> Response:
    """Answer with the picture of a photo that was offered."""
    record = work.suggester.offered.get(request.path_params["digest"])
    if record is None:
        raise HTTPException(404, "this photo was not offered")
    headers = {"Cache-Control": "private, max-age=3600"}
    return Response(await _done(view, record), media_type="image/webp", headers=headers)


def view(record: ImageRecord) -> bytes:
    """Return a picture of a whole photo, of at most `VIEW` pixels a side, as WebP. Raises ImageError."""
    image = decode(record.read_unchanged(), VIEW)
    image.thumbnail((VIEW, VIEW), Image.Resampling.BILINEAR, reducing_gap=2.0)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_QUALITY, method=2)
    return file.getvalue()


def _run_of(work: Labelling, request: Request, newest: bool = False) -> tuple[Model, Classifier]:
    """Return the model that a request names, and its run. Raises HTTPException 404 where it has none."""
    model = model_of(work.service, request)
    model = work.service.model(model.name) if newest else model
    if not isinstance(model.predictor, Classifier):
        raise HTTPException(404, f"{model.name} is an export, which has no photos; serve the run to look at them")
    return model, model.predictor


def _since(request: Request) -> int:
    """Return the number of corrections that a page has, which it names as ``since``. Raises HTTPException 400."""
    text = request.query_params.get("since", "0")
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise HTTPException(400, "since is no whole number")
    return int(text)


async def _document(request: Request) -> dict[str, str]:
    """Return the JSON object of a request, all of whose values are text. Raises HTTPException."""
    body = await request.body()
    if len(body) > _MOST:
        raise HTTPException(413, "the correction is too long")
    try:
        values = await request.json()
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise HTTPException(400, 'wanted a JSON object of text, such as {"action": "exclude", "digest": ...}')
    return values


async def _done(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what a function returns, which works in a thread. An error of a user becomes an HTTPException."""
    try:
        return await run_in_threadpool(function, *args, **kwargs)
    except UnknownPhotoError as error:
        raise HTTPException(404, str(error)) from error
    except (ConfigError, ImageError) as error:
        raise HTTPException(422, str(error)) from error
    except (BusyError, RegraftError) as error:
        raise HTTPException(409, str(error)) from error
    except OSError as error:
        console.warn(str(error))
        raise HTTPException(507, f"the server cannot write: {(error.strerror or '').lower()}") from error
