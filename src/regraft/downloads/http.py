"""Send one HTTP request, and read the answer as a stream of bytes, with limits on what the server may do.

A connection that is too slow is closed, the number of redirects is limited, redirects may lead to http and https only,
and an invalid answer is an error. The library urllib3 does the HTTP. Its import takes 70 ms, so that it is imported
only when a request is sent.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from regraft.downloads.address import is_url, parse
from regraft.errors import DataError

if TYPE_CHECKING:
    import socket

    from urllib3 import BaseHTTPResponse, PoolManager

MAX_REDIRECTS = 10
WINDOW = 30.0
"""The period, in seconds, over which the speed of a connection is measured."""

MIN_RATE = 1024
"""The lowest speed of a connection, in bytes per second. A slower connection is closed."""

_CONNECT = 10.0  # seconds in which the connection must be made
_BLOCK = 2**18  # bytes that are read at a time
_MAX_HEADER = 200  # characters of a header that is kept, and of a reason that is shown
_MAX_DIGITS = 18  # digits of a stated length


class BrokenError(Exception):
    """The connection failed. Another request may succeed. The message is the reason."""


class Answer:
    """The answer of a server. The status and the headers are known; the body is read by `body`.

    Attributes:
        status: the HTTP status code, such as 200.
        reason: the server's text for the status code.
        length: the size of the body in bytes; None if the server does not state it.
    """

    def __init__(self, response: BaseHTTPResponse, watch: _Watch, url: str) -> None:
        self.status: int = response.status
        self.reason: str = (response.reason or "")[:_MAX_HEADER]
        self.length: int | None = _length(response.headers, url)
        self._response = response
        self._watch = watch

    def header(self, name: str) -> str | None:
        """Return the value of a header; None if the header is missing or unfit to be sent in a later request."""
        value = self._response.headers.get(name, "").strip()
        return value if value and value.isascii() and value.isprintable() and len(value) <= _MAX_HEADER else None

    def body(self) -> Iterator[bytes]:
        """Yield the bytes of the body as they arrive.

        Raises:
            BrokenError: the connection ends too early, or is too slow.
        """
        while True:
            with self._watch.judging():
                block = self._response.read1(_BLOCK)
            if not block:
                return
            self._watch.came(len(block))
            yield block


@contextmanager
def ask(url: str, headers: dict[str, str]) -> Iterator[Answer]:
    """Send a GET request for ``url``, and follow redirects. The connection is open during the ``with`` block.

    Args:
        url: an http or https URL in ASCII.
        headers: the request headers by name.

    Yields:
        The answer of the server.

    Raises:
        BrokenError: the server cannot be reached, closes the connection, or is too slow.
        DataError: the server redirects to something other than HTTP or too often, or states an invalid length.
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
            watch.came(int(WINDOW * MIN_RATE))  # the headers of an answer count as enough bytes for one period
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
    """A thread that closes the connection if fewer than `MIN_RATE` bytes per second arrive for `WINDOW` seconds.

    The time limit of a socket would not do this: it begins again with each byte, even within the headers.
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
        """Watch a connection from now on, through a duplicate of its socket.

        A duplicate is needed because the encryption layer takes over the socket itself.
        """
        before, self._held = self._held, opened.dup()
        if before is not None:
            before.close()

    def came(self, count: int) -> None:
        """Add ``count`` to the number of bytes that have arrived."""
        self._bytes += count

    @contextmanager
    def judging(self) -> Iterator[None]:
        """Turn network errors in the ``with`` block, and a connection that was too slow, into a BrokenError."""
        from http.client import HTTPException

        from urllib3.exceptions import HTTPError

        try:
            yield
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            if not self._slow:
                raise BrokenError(_reason(error)) from error
        if self._slow:  # also without an error: a connection that was closed can look like the end of the body
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
    """Return a urllib3 pool manager, with a proxy if the environment names one. ``watch`` watches its connections."""
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
    """Return the URL to which a redirect leads.

    Servers write ``location`` in UTF-8, but Python reads headers as Latin-1, so that the text is decoded again here.
    """
    with suppress(UnicodeError):
        location = location.encode("latin-1").decode("utf-8")
    try:
        return urljoin(place, location)
    except ValueError as error:
        raise DataError(f"{place} redirects to {location[:_MAX_HEADER]}, which is no URL: {error}") from error


def _length(headers: Any, url: str) -> int | None:
    """Return the length of the body in bytes as the server states it, or None. Raises DataError if it is no number."""
    stated = headers.get("Content-Length")
    if stated is None or "chunked" in headers.get("Transfer-Encoding", "").lower():
        return None
    if not (stated.isascii() and stated.isdecimal() and len(stated) <= _MAX_DIGITS):
        raise DataError(f"{url} cannot be downloaded: the server states a length of {stated[:_MAX_HEADER]!r} bytes")
    return int(stated)


def _reason(error: BaseException) -> str:
    """Return the message of the innermost cause that has one, as a short reason for the user."""
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
