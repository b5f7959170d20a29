"""What somebody wrote as a URL → the ASCII of it that a server is asked for, or one line that says what is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from regraft.errors import DataError

_SCHEMES = ("http://", "https://")
_SAFE = "%/:=&?~+!$,;'@()*[]"  # what stands for itself in a path or a query; a percent sign begins what is encoded
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Address:
    """A checked URL.

    Attributes:
        url: in ASCII, host by IDNA and the rest percent-encoded, without a fragment.
        sha256: 64 hexadecimal digits that the content must have, or None.
    """

    url: str
    sha256: str | None

    @property
    def name(self) -> str:
        """The last part of the path as the name of a file: ASCII, at most 100 characters, never hidden or empty."""
        last = urlsplit(self.url).path.rpartition("/")[2]
        return "".join(c if c.isalnum() or c in "-._" else "_" for c in last)[-100:].lstrip(".") or "download"


def is_url(spec: str) -> bool:
    """Whether ``spec`` begins as a URL of HTTP does."""
    return spec[:8].lower().startswith(_SCHEMES)


def parse(url: str) -> Address:
    """Check a URL; ``#sha256=<64 digits>`` at its end is split off.

    Raises:
        DataError: it is no URL of http or https that could be asked for.
    """
    try:
        parts = _split(url.strip())
        host, port = _host(parts.hostname or ""), parts.port
    except ValueError as error:  # also of urlsplit, of idna
        raise DataError(f"{url} is no URL that can be downloaded: {error}") from error
    place = host if port is None else f"{host}:{port}"
    path, query = (quote(part, _SAFE, errors="surrogateescape") for part in (parts.path or "/", parts.query))
    return Address(urlunsplit((parts.scheme, place, path, query, "")), _digest(url, parts.fragment))


def _split(url: str) -> SplitResult:
    if not all(c.isprintable() or not c.isascii() for c in url):
        raise ValueError("it holds a line break, a tab or a control character")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{parts.scheme or 'what has no scheme'} is neither http nor https")
    if "@" in parts.netloc:
        raise ValueError("it holds a user name, and regraft sends none")
    return parts


def _host(host: str) -> str:
    if not host:
        raise ValueError("it has no host")
    if ":" in host:
        from ipaddress import IPv6Address

        return f"[{IPv6Address(host)}]"
    if re.search(r"[\s/%\\@<>|^`{}\"]", host):
        raise ValueError(f"{host!r} is no name of a host")
    return host.encode("idna").decode("ascii")


def _digest(url: str, fragment: str) -> str | None:
    name, equals, digits = fragment.partition("=")
    if not equals or name.lower() != "sha256":
        return None
    if not _DIGEST.fullmatch(digits.lower()):
        raise DataError(f"{url} ends in a SHA-256 of {len(digits)} characters; wanted 64 hexadecimal digits")
    return digits.lower()
