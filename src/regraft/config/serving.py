"""The options of the server.

In: keyword arguments or flags. Out: `ServeConfig`, checked.
Why: who may reach the server must be decided before it listens.
Surprise: without ``host`` only this machine can reach the server; with ``host``, clients must send a token.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from regraft.config.values import require_types
from regraft.errors import ConfigError, option

MOST_PORTS = 65535


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """Where the server listens, and who may use it."""

    heading: ClassVar[str] = "server"

    host: str = "127.0.0.1"
    """Address to listen on; by default only programs on this machine can reach the server. Another address needs
    --token or --no-token; 0.0.0.0 is all addresses of this machine."""

    port: int = 8000
    """Port to listen on; 0 for any free port."""

    token: str = ""
    """Secret text that each request must send, as Authorization: Bearer TOKEN; the page asks for it. By default the
    environment variable REGRAFT_TOKEN."""

    no_token: bool = False
    """Let everybody who reaches --host use the server without a token."""

    new: Path | None = None
    """Folder of a project that begins with nothing: make classes, add photos and train on the page. Made if it is
    missing; type the same folder again to go on."""

    unlabelled: Path | None = None
    """Folder of photos without labels; the page offers those that are worth the most to label next."""

    def __post_init__(self) -> None:
        """Check the types of the values, and that a server that others can reach asks for a token."""
        require_types(self)
        if not 0 <= self.port <= MOST_PORTS:
            raise ConfigError(f"port {self.port}: wanted 0 to {MOST_PORTS}")
        if self.token != self.token.strip() or not self.token.isprintable():
            raise ConfigError("the token begins or ends with a space, or has a line break; no client can send it")
        if self.token and self.no_token:
            raise ConfigError(f"{option('token')} and {option('no_token')} contradict each other; type one of them")
        if not (self.token or self.no_token or is_loopback(self.host)):
            raise ConfigError(
                f"others can reach the server at {option('host', self.host)}; type {option('token', 'SECRET')}, or "
                f"{option('no_token', True)} if everybody may use it"
            )


def is_loopback(host: str) -> bool:
    """Return whether only programs on this machine can reach a host, which is a name or an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
