"""The application of the server: the routes of all protocols and of the page, and what holds for each request.

In: the models and the options. Out: an ASGI application.
Why: each protocol is a module of its own, and this module is the one place where they meet.
Surprise: the models are loaded before the server listens, and the threads start with the event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from regraft.config.serving import ServeConfig
from regraft.serving import openapi
from regraft.serving.batching import Batches
from regraft.serving.envelope import Envelope
from regraft.serving.limits import Limits
from regraft.serving.metrics import Measured, Metrics
from regraft.serving.metrics import routes as metrics_routes
from regraft.serving.models import Models
from regraft.serving.protocols import health, open_inference, plain, tensorflow_serving
from regraft.serving.reloading import refreshed
from regraft.serving.security import Security
from regraft.serving.service import Service

Pages = Callable[[Service, ServeConfig], AbstractContextManager[Sequence[BaseRoute]]]
"""Gives the routes of pages for people, beside those of the protocols, and ends the work of the pages."""


def application(models: Models, config: ServeConfig, pages: Pages) -> Starlette:
    """Return the ASGI application of a server, with the routes of all protocols and of ``pages``."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        batches = Batches(on_batch=metrics.batch)
        metrics.waiting = lambda: batches.waiting
        service = Service(models, batches, metrics)
        described = [
            *health.routes(),
            *plain.routes(service),
            *open_inference.routes(service),
            *tensorflow_serving.routes(service),
            *metrics_routes(metrics),
        ]
        app.router.routes += [*described, *openapi.routes(models, described, bool(config.token))]
        with pages(service, config) as routes:
            app.router.routes += routes
            async with refreshed(models):
                yield
        batches.stop()

    metrics = Metrics()
    around = [Middleware(Measured, metrics), Middleware(Envelope), Middleware(Limits), Middleware(Security, config)]
    app = Starlette(lifespan=lifespan, middleware=around, exception_handlers={HTTPException: _as_json})
    app.router.redirect_slashes = False  # an address of ours is never made of a Host that a stranger sent
    app.state.stopping, app.state.log = False, None
    return app


async def _as_json(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
