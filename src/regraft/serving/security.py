"""Who may use the server: tokens, and the Host and Origin of requests.

In: each request, before any route sees it. Out: the same request, or a refusal: 400, 401 or 403.
Why: any web page that the user visits can send requests to a server on the user's own machine.
Surprise: with a token any Host is accepted, because a page of a stranger does not know the token.
"""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from regraft.config.serving import ServeConfig

OPEN_PATHS = frozenset({"/", "/livez", "/readyz", "/v2/health/live", "/v2/health/ready"})
"""The paths that need no token: the page, which asks for the token, and the health of the server."""

OPEN_FOLDER = "/static/"
"""The beginning of the paths of the page's files, which need no token."""

PAGE = "/page/"
"""The beginning of the paths that only the page uses. They change files, so a form of a stranger must not reach them:
each request there that is no GET has the header ``X-Regraft``, which a form cannot send."""

_READING = ("GET", "HEAD")


class Security:
    """An ASGI application that refuses requests of strangers, and gives the others to the application inside.

    Args:
        app: the application inside.
        config: the host that the server listens on, and the token.
    """

    def __init__(self, app: ASGIApp, config: ServeConfig) -> None:
        self._app = app
        self._host = config.host.lower()
        self._token = f"Bearer {config.token}".encode() if config.token else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        app = self._refusal(scope) if scope["type"] == "http" else None
        await (app or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        """Return the answer to a request that is refused; None for a request that is welcome."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if sum(name == b"host" for name, _ in scope["headers"]) > 1:
            return _error(400, "there are two Host headers")
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not (self._token or is_own_host(host, self._host)):
            return _error(400, "this server does not answer to this Host; use its address, or start it with --token")
        path = scope["path"]
        is_open = path in OPEN_PATHS or path.startswith(OPEN_FOLDER)
        given = headers.get(b"authorization", b"")
        if self._token and not is_open and not hmac.compare_digest(given, self._token):
            return _error(401, "wanted the header Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        if scope["method"] in _READING:
            return None
        if not is_same_origin(headers, host):
            return _error(403, "the request comes from a page of another origin")
        if path.startswith(PAGE) and b"x-regraft" not in headers:
            return _error(403, "wanted the header X-Regraft: 1")
        return None


def is_own_host(host: str, own: str) -> bool:
    """Return whether a ``Host`` header can only mean this server, whatever the name servers of a stranger answer.

    An address is such a host, and so are ``localhost`` and the name that the server was told to listen on. The port
    does not matter: a tunnel or a container may change it.

    Args:
        host: the header, in lower case, such as ``localhost:8000`` or ``[::1]``.
        own: the host that the server was told to listen on.
    """
    name = _hostname(host)
    return name in ("localhost", own) or name.endswith(".localhost") or _is_address(name)


def is_same_origin(headers: dict[bytes, bytes], host: str) -> bool:
    """Return whether a request comes from a page of this server, or from no page at all.

    Browsers tell where a request comes from by ``Sec-Fetch-Site``, or else, on plain HTTP, by ``Origin``. Programs
    send neither.
    """
    if site := headers.get(b"sec-fetch-site"):
        return site in (b"same-origin", b"none")
    origin = headers.get(b"origin")
    return origin is None or _netloc(origin.decode("latin-1").lower()) == host != ""


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _hostname(host: str) -> str:
    """Return the name or address in a ``Host`` header, without the port; empty where it has no such form."""
    name, mark, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not mark:
        name = host
    elif not port.isdecimal():
        return ""
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": text}, status, headers)
