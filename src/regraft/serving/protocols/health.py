"""The health of the server, for what starts and watches it: whether it lives, and whether it is ready to answer."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from regraft.serving.openapi import TEXT, Described, Operation

_LIVE = Operation("Answer 200 while the server runs.", "health", gives={TEXT: None})
_READY = Operation("Answer 200 where the server is ready to answer photos.", "health", gives={TEXT: None})


def routes() -> list[Route]:
    """Return the routes of the server's health, under the names of Kubernetes and of the Open Inference Protocol."""
    live = [Described("GET", path, _live, _LIVE) for path in ("/livez", "/v2/health/live")]
    return [*live, *(Described("GET", path, _ready, _READY) for path in ("/readyz", "/v2/health/ready"))]


async def _live(_: Request) -> Response:
    return PlainTextResponse("")


async def _ready(request: Request) -> Response:
    """Answer 200: the server listens only after each model has answered a photo. Answer 503 once it is stopping."""
    return PlainTextResponse("", 503 if request.app.state.stopping else 200)
