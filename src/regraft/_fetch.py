"""One file from the web: downloaded once, with progress; resumed after a break; checked before it counts.

The standard library's HTTP client takes 50 ms to import, so it is imported when there is something to fetch.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import IO, Any
from urllib.parse import urldefrag, urlsplit

from regraft import _console
from regraft._cache import writable_place
from regraft._files import atomic_file, digest_bytes, digest_file, write_json
from regraft.errors import DataError

_BLOCK = 2**20
_TRIES = 5
_TIMEOUT = 30.0
_PAUSE = 1.0
"""Seconds before the second try; twice as many before each further one."""


def fetch(url: str) -> Path:
    """The file at ``url``, from the cache where the server says that it has not changed.

    ``#sha256=<64 digits>`` at the end of the URL is checked against the content. Without a connection a file that
    was downloaded before serves, with a note.

    Raises:
        DataError: it cannot be downloaded, or is not what it should be. What has come so far is kept for next time.
    """
    address, fragment = urldefrag(url)
    name = urlsplit(address).path.rpartition("/")[2] or "download"
    folder = writable_place("downloads", digest_bytes(address.encode())[:16])
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "".join(c if c.isalnum() or c in "-._" else "_" for c in name)[-100:]
    wanted = fragment.removeprefix("sha256=").lower() if fragment.startswith("sha256=") else None
    if not (wanted and file.is_file() and digest_file(file) == wanted):
        _download(address, file)
    if wanted and (found := digest_file(file)) != wanted:
        file.unlink()
        raise DataError(f"{address} has SHA-256 {found}, not {wanted} as asked; it was thrown away")
    return file


def _download(address: str, file: Path) -> None:
    import http.client
    import urllib.error

    pause, reason = _PAUSE, ""
    for _ in range(_TRIES):
        try:
            return _try_once(address, file)
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 416, 429):
                break
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", None) or error)
            if file.is_file():
                _console.note(f"{address} cannot be reached ({reason}): taken as it was downloaded before")
                return None
        time.sleep(pause)
        pause *= 2
    partial = _partial(file)
    kept = f"; {partial.stat().st_size / 1e6:.0f} MB are kept, the same command goes on" if partial.is_file() else ""
    raise DataError(f"{address} cannot be downloaded: {reason}{kept}")


def _partial(file: Path) -> Path:
    return file.with_name(file.name + ".partial")


def _try_once(address: str, file: Path) -> None:
    import urllib.error
    import urllib.request

    partial = _partial(file)
    known = _facts(file if file.is_file() else partial)
    headers = {"User-Agent": "regraft", "Accept-Encoding": "identity"}
    if file.is_file():
        headers |= {"If-None-Match": known["etag"]} if known.get("etag") else {}
        headers |= {"If-Modified-Since": known["modified"]} if known.get("modified") else {}
    elif partial.is_file() and (validator := known.get("etag") or known.get("modified")):
        headers |= {"Range": f"bytes={partial.stat().st_size}-", "If-Range": validator}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=_TIMEOUT)  # noqa: S310  (http and https only: the source sees to it)
    except urllib.error.HTTPError as error:
        if error.code == 304:
            return
        if error.code == 416:  # what there is of it has another length by now
            partial.unlink(missing_ok=True)
        raise
    with answer:
        resumed = answer.status == 206
        facts = {"etag": answer.headers.get("ETag"), "modified": answer.headers.get("Last-Modified")}
        write_json(_beside(partial), facts)
        _receive(answer, partial, partial.stat().st_size if resumed else 0)
    _beside(file).unlink(missing_ok=True)  # a kill between these lines costs a download, never an old file for new
    with atomic_file(file) as fresh:
        partial.replace(fresh)
    _beside(partial).replace(_beside(file))


def _beside(file: Path) -> Path:
    return file.with_name(file.name + ".json")


def _facts(file: Path) -> dict[str, Any]:
    """What the server said of a file that would tell a newer one from it."""
    try:
        found = json.loads(_beside(file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _receive(answer: Any, partial: Path, start: int) -> None:
    length = answer.headers.get("Content-Length")
    total = start + int(length) if length else 0
    if total > shutil.disk_usage(partial.parent).free + start:
        raise DataError(f"the download has {total / 1e9:.1f} GB, more than is free in {partial.parent}")
    with partial.open("r+b" if start else "wb") as file, _console.progress("downloading kB", total // 1000) as advance:
        file.seek(start)
        advance(start // 1000)
        copied = start + _copy(answer, file, advance)
        file.truncate()
    if length and copied != total:
        raise ConnectionError(f"the connection ended {total - copied:,} bytes too early")


def _copy(answer: Any, file: IO[bytes], advance: _console.Advance) -> int:
    copied = 0
    while block := answer.read(_BLOCK):
        file.write(block)
        copied += len(block)
        advance(len(block) // 1000)
    return copied
