"""Check a URL that a user typed, and convert it to ASCII for the request to the server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from regraft.errors import DataError
from regraft.foundation.file_names import portable_name

_SCHEMES = ("http://", "https://")
_SAFE = "%/:=&?~+!$,;'@()*[]"
"""Characters that are not percent-encoded in a path or a query. After a percent sign, the text is encoded already."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Address:
    """A checked URL.

    Attributes:
        url: the URL in ASCII, without a fragment. The host is encoded by IDNA, and the rest is percent-encoded.
        sha256: the SHA-256 digest that the content must have, as 64 hexadecimal digits; None if any content will do.
    """

    url: str
    sha256: str | None

    @property
    def name(self) -> str:
        """The last part of the URL's path as a file name.

        The name is ASCII, has at most 100 characters, is not empty and does not begin with a full stop.
        """
        last = urlsplit(self.url).path.rpartition("/")[2]
        plain = "".join(c if c.isalnum() or c in "-._" else "_" for c in last)
        return portable_name(plain[-99:].lstrip(".")) or "download"


def is_url(spec: str) -> bool:
    """Return whether ``spec`` begins with ``http://`` or ``https://``."""
    return spec[:8].lower().startswith(_SCHEMES)


def parse(url: str) -> Address:
    """Check a URL, and split off ``#sha256=<64 digits>`` at its end.

    Args:
        url: the URL as the user typed it.

    Returns:
        The checked URL and the digest.

    Raises:
        DataError: the text is not an http or https URL that can be requested.
    """
    try:
        parts = _split(url.strip())
        host, port = _host(parts.hostname or ""), parts.port
    except ValueError as error:  # raised here, by urlsplit or by the IDNA codec
        raise DataError(f"{url} is no URL that can be downloaded: {error}") from error
    place = host if port is None else f"{host}:{port}"
    path, query = (quote(part, _SAFE, errors="surrogateescape") for part in (parts.path or "/", parts.query))
    return Address(urlunsplit((parts.scheme, place, path, query, "")), _digest(url, parts.fragment))


def _split(url: str) -> SplitResult:
    """Split a URL into its parts. Raises ValueError, with the reason, for a URL that cannot be requested."""
    if not all(c.isprintable() or not c.isascii() for c in url):
        raise ValueError("it holds a line break, a tab or a control character")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{parts.scheme or 'what has no scheme'} is neither http nor https")
    if "@" in parts.netloc:
        raise ValueError("it holds a user name, and regraft sends none")
    return parts


def _host(host: str) -> str:
    """Return a host name in ASCII, or an IPv6 address in brackets. Raises ValueError for anything else."""
    if not host:
        raise ValueError("it has no host")
    if ":" in host:
        from ipaddress import IPv6Address

        return f"[{IPv6Address(host)}]"
    if re.search(r"[\s/%\\@<>|^`{}\"]", host):
        raise ValueError(f"{host!r} is no name of a host")
    return host.encode("idna").decode("ascii")


def _digest(url: str, fragment: str) -> str | None:
    """Return the SHA-256 digest in the fragment of a URL; None if the fragment is something else."""
    name, equals, digits = fragment.partition("=")
    if not equals or name.lower() != "sha256":
        return None
    if not _DIGEST.fullmatch(digits.lower()):
        raise DataError(f"{url} ends in a SHA-256 of {len(digits)} characters; wanted 64 hexadecimal digits")
    return digits.lower()
