"""Run the server: listen, and end when it is told to.

In: the models, the options, and sockets. Out: a server that runs until a signal.
Why: a client that was accepted gets its answer, also when the server is told to stop.
Surprise: the first SIGINT or SIGTERM ends the server in order, with the exit code 0; the second goes to the handler
that was there before, which ends the process at once.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn

from regraft.config.serving import ServeConfig
from regraft.foundation import console
from regraft.serving.access_log import AccessLog
from regraft.serving.app import Pages, application
from regraft.serving.connections import Connection
from regraft.serving.listening import address_of
from regraft.serving.models import Models

CONNECTIONS = 512
"""The most connections at a time. A request beyond them is answered with 503."""

BACKLOG = 512
"""The most connections that the system accepts before the server has seen them."""

STOP_SECONDS = 10
"""The longest time in which the server answers what it has accepted, after it was told to stop, in seconds."""

LATEST_SECONDS = 12
"""The longest time from the signal to the end of the process, in seconds, whatever threads are still doing."""

_TAKE_IN_SECONDS = 2.0
"""The longest time in which the server reads what has arrived before it was told to stop, in seconds."""

_ROUND = 0.02
"""The time between two looks at whether something is not read yet, in seconds."""

_QUIET = 3
"""How many looks in a row must find everything read."""


def run(models: Callable[[], Models], config: ServeConfig, sockets: list[socket.socket], pages: Pages) -> None:
    """Serve models until SIGINT or SIGTERM.

    Args:
        models: returns the models, once they are loaded.
        config: who may use the server.
        sockets: where the server listens.
        pages: returns the routes of the pages for people.

    Raises:
        RunError, ExportError, BackboneError: a path holds no run or export that can be served.
    """
    loaded = models()
    app = application(loaded, config, pages)
    app.state.log = AccessLog() if console.says() else None
    names = loaded.names or [config.new.name if config.new else ""]
    server = _Server(
        uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            backlog=BACKLOG,
            timeout_graceful_shutdown=STOP_SECONDS,
        ),
        app.state,
        f"{', '.join(names)}: {address_of(sockets, config)} (stop with Ctrl-C)",
    )
    try:
        server.run(sockets)
    finally:
        if app.state.log:
            app.state.log.stop()


class _Server(uvicorn.Server):
    """A server of uvicorn that answers all that has arrived before it ends.

    Args:
        config: the options of uvicorn.
        state: the state of the application, which knows whether the server is stopping.
        greeting: what to say as soon as the server listens.
    """

    def __init__(self, config: uvicorn.Config, state: Any, greeting: str) -> None:
        super().__init__(config)
        self._state, self._greeting = state, greeting
        self._before: dict[int, Any] = {}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        console.say(self._greeting)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals in the ``with`` block, and restore their handlers after it."""
        names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        handled = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self.handle_exit) for number in handled}
        try:
            yield
        finally:
            self._restore_handlers()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Stop the server after its last answer; after a second signal, at once."""
        if not self.should_exit:
            self.should_exit = True
            return
        self._restore_handlers()
        signal.raise_signal(sig)

    def _restore_handlers(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take in what has arrived, and end when all of it is answered, or after `STOP_SECONDS`.

        Each answer from now on closes its connection. Connections that wait to be accepted are accepted, and requests
        that lie unread in a connection are read, before uvicorn closes what is idle.
        """
        self._state.stopping = True
        # Python waits for the threads of pools, which may choose photos or make a report for minutes.
        end_at_last = threading.Timer(LATEST_SECONDS, os._exit, (0,))
        end_at_last.daemon = True
        end_at_last.start()
        for one in sockets or ():
            one.listen(0)  # the system lets hardly anybody in any more
        loop = asyncio.get_running_loop()
        end, quiet = loop.time() + _TAKE_IN_SECONDS, 0
        while quiet < _QUIET and loop.time() < end:
            await asyncio.sleep(_ROUND)
            quiet = 0 if self._has_unread(sockets or ()) else quiet + 1
        await super().shutdown(sockets)

    def _has_unread(self, sockets: Iterable[socket.socket]) -> bool:
        """Return whether a connection waits to be accepted, or an idle connection has bytes that were not read."""
        connections = self.server_state.connections
        idle = [one for one in connections if one.cycle is None or one.cycle.response_complete]  # type: ignore[union-attr]
        numbers = {one.fileno() for one in sockets}
        numbers |= {one.transport.get_extra_info("socket").fileno() for one in idle}
        with selectors.DefaultSelector() as selector:
            for number in numbers - {-1}:
                selector.register(number, selectors.EVENT_READ)
            return bool(selector.select(0))
