"""The OpenAPI document of the server, made from the routes and from the records that they take and give.

In: the routes of all protocols. Out: the document, which ``/openapi.json`` answers with.
Why: a document that is written by hand beside the code is soon wrong.
Surprise: the document is made when it is asked for, since it names the models that the server has at that time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from regraft.foundation.records import schemas_of
from regraft.serving.loading import VERSION
from regraft.serving.models import Models

JSON = "application/json"
BYTES = "application/octet-stream"
TEXT = "text/plain"

REASONS = {
    400: "The request is not as the protocol wants it, or a photo cannot be read.",
    401: "The request has no token, or a wrong one.",
    403: "A page of another site sent the request.",
    404: "There is no such model or version.",
    408: "The body did not arrive in time.",
    411: "The request does not tell the length of its body.",
    413: "The body or a photo is too large.",
    415: "The server does not take a body of this encoding or type.",
    421: "The request was sent to another host than this server.",
    422: "The photo cannot be read.",
    429: "The server is busy; send the request again after the seconds in Retry-After.",
    431: "The headers are too large.",
    500: "The network cannot be run.",
    503: "The server starts, ends or has too many connections; send the request again.",
    504: "The answer took too long.",
}
"""What the status codes of errors mean."""

_WITHOUT_BODY = (400, 401, 403, 404, 421, 431, 503)
"""The errors of a request without a body."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error. The field ``error`` is one sentence on what was found and what was wanted."""

    error: str


@dataclass(frozen=True, slots=True)
class Operation:
    """What the document says of a route.

    Attributes:
        summary: what the route does, in one sentence.
        tag: the name of the protocol.
        takes: the record of the body for each media type, None for any bytes; empty where there is no body.
        gives: the record of the answer for each media type, None for any bytes or text; empty for an empty body.
        example: an example of the body.
        headers: what each header of the request means.
        query: what each parameter of the query means.
    """

    summary: str
    tag: str
    takes: Mapping[str, Any] = field(default_factory=dict)
    gives: Mapping[str, Any] = field(default_factory=dict)
    example: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def records(self) -> list[type[Any]]:
        """The records of the bodies."""
        return [kind for kind in (*self.takes.values(), *self.gives.values()) if kind is not None]


class Described(Route):
    """A route that the document describes."""

    def __init__(self, method: str, path: str, endpoint: Any, operation: Operation) -> None:
        super().__init__(path, endpoint, methods=[method])
        self.method = method
        self.operation = operation


def routes(models: Models, others: Iterable[Route], with_token: bool) -> list[Route]:
    """Return the route of the document.

    Args:
        models: the models that the document names.
        others: the routes that the document describes.
        with_token: whether each request must send a token.
    """
    described = [route for route in others if isinstance(route, Described)]

    async def openapi(_: Request) -> Response:
        return JSONResponse(document_of(described, models.names, with_token))

    about = Operation("This document.", "server", gives={JSON: None})
    own = Described("GET", "/openapi.json", openapi, about)
    described.append(own)
    return [own]


def document_of(described: Sequence[Described], names: Sequence[str], with_token: bool) -> dict[str, Any]:
    """Return the OpenAPI document (3.1) of routes, for a server that has the models ``names``."""
    kinds = list(dict.fromkeys(kind for route in described for kind in (*route.operation.records, Failure)))
    references, records = schemas_of(kinds, "#/components/schemas/{name}")
    schemas = dict(zip(kinds, references, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in described:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, names, schemas)
    components: dict[str, Any] = {"schemas": records}
    if with_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "regraft",
            "version": version("regraft"),
            "description": "Image classifiers that regraft trained. A photo is answered with the probability of each "
            'class, or with "none of these" where it is unlike all photos of the training.',
        },
        "paths": paths,
        "components": components,
        **({"security": [{"token": []}]} if with_token else {}),
    }


def _operation(route: Described, names: Sequence[str], schemas: Mapping[type[Any], dict[str, Any]]) -> dict[str, Any]:
    about = route.operation
    parameters = [_of_path(name, names) for name in re.findall(r"\{(\w+)\}", route.path)]
    for place, texts in (("header", about.headers), ("query", about.query)):
        parameters += [
            {"name": name, "in": place, "required": False, "description": text, "schema": {"type": "string"}}
            for name, text in texts.items()
        ]
    failed = {"description": "", "content": {JSON: {"schema": schemas[Failure]}}}
    codes = REASONS if about.takes else _WITHOUT_BODY
    found: dict[str, Any] = {"description": "The answer."}
    if about.gives:
        found |= {"content": _contents(about.gives, schemas)}
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}{re.sub('[^a-zA-Z0-9]+', '_', route.path).rstrip('_')}",
        "summary": about.summary,
        "tags": [about.tag],
        "responses": {"200": found} | {str(code): {**failed, "description": REASONS[code]} for code in codes},
    }
    if parameters:
        operation["parameters"] = parameters
    if about.takes:
        contents = _contents(about.takes, schemas)
        if about.example is not None:
            contents[JSON]["example"] = about.example
        operation["requestBody"] = {"required": True, "content": contents}
    return operation


def _contents(kinds: Mapping[str, Any], schemas: Mapping[type[Any], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {media: {"schema": {} if kind is None else schemas[kind]} for media, kind in kinds.items()}


def _of_path(name: str, names: Sequence[str]) -> dict[str, Any]:
    """Return a parameter in a path: the name of a model or the number of a version."""
    schema = (
        {"type": "string", "enum": list(names)}
        if name == "name"
        else {"type": "string", "pattern": f"^{VERSION.pattern}$"}
    )
    return {"name": name, "in": "path", "required": True, "schema": schema}
