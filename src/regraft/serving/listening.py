"""The sockets of the server: opened before the models are loaded, so that a port that is in use is reported at once.

In: host and port. Out: sockets that do not listen yet, and the address for the user.
Why: loading takes longer than finding out that the port is in use.
Surprise: ``localhost`` is usually two addresses, 127.0.0.1 and ::1, which get the same port.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import quote

from regraft.config.serving import ServeConfig
from regraft.errors import ConfigError, option

_MISSING = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def bound_sockets(host: str, port: int) -> list[socket.socket]:
    """Return a socket for each address of a host, bound to a port; 0 is any free port.

    Raises:
        ConfigError: the port is in use, or the host is no address of this machine.
    """
    found: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            chosen = found[0].getsockname()[1] if found else port
            found.append(_bound(family, (address[0], chosen, *address[2:])))
    except OSError as error:
        if not (found and error.errno in _MISSING):  # a machine without IPv6 still has a localhost
            for one in found:
                one.close()
            raise ConfigError(_reason(error, host, port)) from error
    return found


def _addresses(host: str, port: int) -> Sequence[tuple[int, tuple[str, int]]]:
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    found = dict.fromkeys((family, address[:4]) for family, _, _, _, address in infos)
    return sorted(found, key=lambda one: one[0] != socket.AF_INET)  # type: ignore[arg-type]


def _bound(family: int, address: tuple[str, int]) -> socket.socket:
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            with suppress(AttributeError, OSError):
                found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        found.bind(address)
        found.setblocking(False)
    except BaseException:
        found.close()
        raise
    return found


def _reason(error: OSError, host: str, port: int) -> str:
    """Return why a port cannot be listened on, with what to type."""
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use; type another {option('port', str(port + 1))}, or 0 for any free port"
    if error.errno == errno.EACCES:
        return f"port {port} is for the administrator alone; type {option('port', '8000')}"
    return f"{option('host', host)} is no address of this machine: {error.strerror or error}"


def address_of(sockets: Sequence[socket.socket], config: ServeConfig) -> str:
    """Return the address of the page for a browser on this machine.

    On a terminal, the token that the page needs stands behind ``#``, which browsers send to no server. Otherwise it is
    left out, because the line may be kept in a log.
    """
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(config.host, config.host)  # noqa: S104
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    token = f"#token={quote(config.token, safe='')}" if config.token and sys.stderr.isatty() else ""
    return f"http://{host}:{sockets[0].getsockname()[1]}/{token}"
