"""One question to a web server, and its answer as a stream of bytes that ends.

In place of waiting for as long as a server likes: a connection that brings too little is shut down, redirects are few
and stay within HTTP, and what is no valid answer is an error. urllib3 speaks HTTP; it takes 70 ms to import, so it is
imported where something is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from regraft._address import is_url, parse
from regraft.errors import DataError

if TYPE_CHECKING:
    import socket

    from urllib3 import BaseHTTPResponse, PoolManager

MAX_REDIRECTS = 10
WINDOW = 30.0
"""Seconds after which a connection is judged by the bytes that it brought in them."""

MIN_RATE = 1024
"""The fewest bytes a second."""

_CONNECT = 10.0
_BLOCK = 2**18
_MAX_HEADER = 200  # characters of a header that is kept and sent again
_MAX_DIGITS = 18


class BrokenError(Exception):
    """The connection failed; the message is the reason. Another try may go better."""


class Answer:
    """What a server answered, whose body is still to be read.

    Attributes:
        status: such as 200.
        reason: what the server calls it.
        length: the number of bytes of the body; None where the server does not state it.
    """

    def __init__(self, response: BaseHTTPResponse, watch: _Watch, url: str) -> None:
        self.status = response.status
        self.reason = (response.reason or "")[:_MAX_HEADER]
        self.length = _length(response.headers, url)
        self._response = response
        self._watch = watch

    def header(self, name: str) -> str | None:
        """The value of a header; None where there is none, or one that could not be sent back."""
        value = self._response.headers.get(name, "").strip()
        return value if value and value.isascii() and value.isprintable() and len(value) <= _MAX_HEADER else None

    def body(self) -> Iterator[bytes]:
        """Yield the bytes as they come. Raises BrokenError where they end early, or come too slowly."""
        while True:
            with self._watch.judging():
                block = self._response.read1(_BLOCK)
            if not block:
                return
            self._watch.came(len(block))
            yield block


@contextmanager
def ask(url: str, headers: dict[str, str]) -> Iterator[Answer]:
    """Ask for ``url``, follow redirects, and yield the answer.

    Raises:
        BrokenError: the server cannot be reached, breaks off or is too slow.
        DataError: it redirects to what is not HTTP, or in circles, or states a length that is none.
    """
    place = url
    with _Watch() as watch, ExitStack() as opened:
        for _ in range(MAX_REDIRECTS + 1):
            with watch.judging():
                pools = opened.enter_context(_pools(place, watch))
                response = pools.request(
                    "GET", place, headers=headers, preload_content=False, redirect=False, retries=False
                )
            opened.callback(response.close)
            watch.came(int(WINDOW * MIN_RATE))  # an answer is as good as bytes
            location = response.get_redirect_location()
            if not location:
                yield Answer(response, watch, url)
                return
            to = _joined(place, location)
            if not is_url(to):
                raise DataError(f"{url} redirects to {to[:_MAX_HEADER]}; only http and https are followed")
            place = parse(to).url
    raise DataError(f"{url} redirects more than {MAX_REDIRECTS} times")


class _Watch:
    """Shuts down the connection where fewer than `MIN_RATE` bytes a second come for `WINDOW` seconds.

    A time limit of a socket is no help: it begins anew with each byte, also within headers.
    """

    def __init__(self) -> None:
        self._bytes = 0
        self._slow = False
        self._done = threading.Event()
        self._held: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if self._held is not None:
            self._held.close()

    def hold(self, opened: socket.socket) -> None:
        """Watch over a connection from now on, through a handle of its own: encryption takes over the first one."""
        before, self._held = self._held, opened.dup()
        if before is not None:
            before.close()

    def came(self, count: int) -> None:
        """Count bytes that came."""
        self._bytes += count

    @contextmanager
    def judging(self) -> Iterator[None]:
        """Within it whatever the network does becomes a BrokenError."""
        from http.client import HTTPException

        from urllib3.exceptions import HTTPError

        try:
            yield
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            if not self._slow:
                raise BrokenError(_reason(error)) from error
        if self._slow:  # also where what it shut down looks like the end
            raise BrokenError(f"less than {MIN_RATE:,} bytes a second came for {WINDOW:g} seconds")

    def _run(self) -> None:
        from socket import SHUT_RDWR

        before = 0
        while not self._done.wait(WINDOW):
            if self._bytes - before < WINDOW * MIN_RATE and self._held is not None:
                self._slow = True
                with suppress(OSError):
                    self._held.shutdown(SHUT_RDWR)
            before = self._bytes


def _pools(url: str, watch: _Watch) -> PoolManager:
    """What speaks HTTP, through a proxy where the environment names one; ``watch`` holds its connections."""
    from urllib.request import getproxies, proxy_bypass

    import urllib3
    from urllib3 import connection, connectionpool

    class Held:
        def _new_conn(self) -> socket.socket:
            opened: socket.socket = super()._new_conn()  # type: ignore[misc]
            watch.hold(opened)
            return opened

    class Plain(Held, connection.HTTPConnection): ...

    class Secure(Held, connection.HTTPSConnection): ...

    class PlainPool(connectionpool.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(connectionpool.HTTPSConnectionPool):
        ConnectionCls = Secure

    parts = urlsplit(url)
    proxies = getproxies()
    proxy = None if proxy_bypass(parts.hostname or "") else proxies.get(parts.scheme) or proxies.get("all")
    timeout = urllib3.Timeout(connect=_CONNECT, read=WINDOW)
    if proxy:
        pools: PoolManager = urllib3.ProxyManager(proxy if "://" in proxy else f"http://{proxy}", timeout=timeout)
    else:
        pools = urllib3.PoolManager(timeout=timeout)
    pools.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    return pools


def _joined(place: str, location: str) -> str:
    """The URL that a redirect leads to. Servers write its letters in UTF-8, though headers are read as Latin-1."""
    with suppress(UnicodeError):
        location = location.encode("latin-1").decode("utf-8")
    try:
        return urljoin(place, location)
    except ValueError as error:
        raise DataError(f"{place} redirects to {location[:_MAX_HEADER]}, which is no URL: {error}") from error


def _length(headers: Any, url: str) -> int | None:
    """The length of the body as stated. Raises DataError where it is no number."""
    stated = headers.get("Content-Length")
    if stated is None or "chunked" in headers.get("Transfer-Encoding", "").lower():
        return None
    if not (stated.isascii() and stated.isdecimal() and len(stated) <= _MAX_DIGITS):
        raise DataError(f"{url} cannot be downloaded: the server states a length of {stated[:_MAX_HEADER]!r} bytes")
    return int(stated)


def _reason(error: BaseException) -> str:
    """The innermost cause that says something, in few words."""
    from http.client import HTTPException, IncompleteRead

    found: BaseException | None = error
    reason = str(error)
    while found is not None:
        if isinstance(found, IncompleteRead):
            missing = f"{found.expected:,} bytes " if found.expected else ""
            return f"the connection ended {missing}too early"
        if isinstance(found, OSError | HTTPException) and str(found):
            reason = found.strerror.lower() if isinstance(found, OSError) and found.strerror else str(found)
        found = found.__cause__ or found.__context__
    return reason[:_MAX_HEADER]
