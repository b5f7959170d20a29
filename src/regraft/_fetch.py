"""One file from the web: downloaded once, with progress; resumed after a break; checked before it counts.

What the server says is believed only where it fits what was asked: a range that is another, or of another file, is not
added to what is there.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from regraft import _console
from regraft._address import Address, parse
from regraft._cache import writable_place
from regraft._files import atomic_file, digest_bytes, digest_file, locked, write_json
from regraft._http import Answer, BrokenError, ask
from regraft.errors import DataError

MAX_UNSTATED = 2**33
"""The most bytes of a download whose length the server does not state."""

_TRIES = 4
_PAUSE = 0.5
"""Seconds before the second try; twice as many before each further one."""
_WORTH = 2**20
"""A try that brings so many bytes does not count as one: what comes in large pieces comes in the end."""
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers that may be others in a moment."""


class _AgainError(Exception):
    """The server was reached, and another try may go better; the message is the reason."""


class _Facts(NamedTuple):
    """What a server said of a file that tells a newer one from it.

    Attributes:
        etag: its ETag.
        modified: its Last-Modified.
        total: how many bytes the whole file has.
    """

    etag: str | None = None
    modified: str | None = None
    total: int | None = None

    @property
    def validator(self) -> str | None:
        """What proves that the rest of a file belongs to its beginning, which a weak ETag does not."""
        return self.modified if self.etag is None or self.etag.startswith("W/") else self.etag


def fetch(url: str) -> Path:
    """The file at ``url``, from the cache where the server says that it has not changed.

    ``#sha256=<64 digits>`` at the end of the URL is checked against the content. Without a connection a file that
    was downloaded before serves, with a note.

    Raises:
        DataError: it cannot be downloaded, or is not what it should be. What has come so far is kept for next time.
    """
    address = parse(url)
    folder = writable_place("downloads", digest_bytes(address.url.encode())[:16])
    file = folder / address.name
    try:
        with locked(folder / ".lock"):
            _fetch(address, file)
    except OSError as error:
        raise DataError(f"{url} cannot be kept in {folder}: {(error.strerror or str(error)).lower()}") from error
    return file


def forget(file: Path) -> None:
    """Drop what `fetch` gave, so that it is downloaded anew: it proved to be damaged."""
    for path in (file, _partial(file)):
        path.unlink(missing_ok=True)
        _beside(path).unlink(missing_ok=True)


def _fetch(address: Address, file: Path) -> None:
    wanted = address.sha256
    if not (wanted and file.is_file() and digest_file(file) == wanted):
        _download(address.url, file)
    if wanted and (found := digest_file(file)) != wanted:
        forget(file)
        raise DataError(f"{address.url} has SHA-256 {found}, not {wanted} as asked; it was thrown away")


def _download(url: str, file: Path) -> None:
    """Try until the file is there, or several tries in a row brought nothing."""
    partial = _partial(file)
    tries, reason = 0, ""
    while tries < _TRIES:
        if tries:
            time.sleep(_PAUSE * 2 ** (tries - 1))
        before = _size(partial)
        try:
            return _try_once(url, file)
        except BrokenError as error:
            reason = str(error)
            if file.is_file():
                return _console.note(f"{url} cannot be reached ({reason}): taken as it was downloaded before")
        except _AgainError as error:
            reason = str(error)
        tries = 0 if _size(partial) - before >= _WORTH else tries + 1
    size = _size(partial)
    kept = f"; {size / 1e6:.0f} MB are kept, the same command goes on" if size else ""
    raise DataError(f"{url} cannot be downloaded: {reason}{kept}")


def _try_once(url: str, file: Path) -> None:
    partial = _partial(file)
    known = _read_facts(file if file.is_file() else partial)
    headers = _conditions(file, known)
    with ask(url, headers) as answer:
        if answer.status == 304 and {"If-None-Match", "If-Modified-Since"} & set(headers):
            return
        start, total = _extent(answer, headers, known, partial)
        if answer.status != (206 if start else 200):
            refused = f"the server answers {answer.status} {answer.reason}".strip()
            if answer.status in _PASSING:
                raise _AgainError(refused)
            raise DataError(f"{url} cannot be downloaded: {refused}")
        facts = _Facts(answer.header("ETag"), answer.header("Last-Modified"), total)
        write_json(_beside(partial), facts._asdict())
        _receive(url, answer, partial, start)
    if total is not None and _size(partial) != total:
        raise _AgainError(f"the connection ended after {_size(partial):,} of {total:,} bytes")
    _beside(file).unlink(missing_ok=True)  # a kill between these lines costs a download, never an old file for new
    with atomic_file(file) as fresh:
        partial.replace(fresh)
    _beside(partial).replace(_beside(file))


def _conditions(file: Path, known: _Facts) -> dict[str, str]:
    """Headers that ask for what is not there yet."""
    headers = {"User-Agent": "regraft", "Accept-Encoding": "identity"}
    size = _size(_partial(file))
    if file.is_file():
        headers |= {"If-None-Match": known.etag} if known.etag else {}
        headers |= {"If-Modified-Since": known.modified} if known.modified else {}
    elif size and known.validator:
        headers |= {"Range": f"bytes={size}-", "If-Range": known.validator}
    return headers


def _extent(answer: Answer, headers: dict[str, str], known: _Facts, partial: Path) -> tuple[int, int | None]:
    """Where in the file the body begins, and how long the file is, where that is known.

    Raises:
        _AgainError: it is not the part that was asked for, or of another file; what there was is dropped.
    """
    if answer.status == 416 and "Range" in headers:  # what there is has another length by now
        partial.unlink(missing_ok=True)
        raise _AgainError("the file on the server has changed")
    if answer.status != 206 or "Range" not in headers:
        return 0, answer.length
    size = _size(partial)
    found = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", answer.header("Content-Range") or "")
    total = int(found[2]) if found and found[2] != "*" else None
    right = found is not None and int(found[1]) == size and known.total in (None, total)
    right &= answer.length is None or total is None or size + answer.length == total
    for name, value in (("ETag", known.etag), ("Last-Modified", known.modified)):
        right &= value is None or answer.header(name) in (None, value)
    if not right:
        partial.unlink(missing_ok=True)
        raise _AgainError("the server answers with another part of the file than was asked for, or of another file")
    return size, total


def _receive(url: str, answer: Answer, partial: Path, start: int) -> None:
    """Write the body to ``partial`` from byte ``start`` on. Raises DataError where it is larger than it may be."""
    free = shutil.disk_usage(partial.parent).free
    if (answer.length or 0) > free:
        raise DataError(f"{url} has {(answer.length or 0) / 1e9:.1f} GB, more than is free in {partial.parent}")
    limit = min(free, MAX_UNSTATED)
    total = start + (answer.length or 0)
    with partial.open("r+b" if start else "wb") as file, _console.progress("downloading kB", total // 1000) as advance:
        file.seek(start)
        file.truncate()
        advance(start // 1000)
        size = start
        for block in answer.body():
            size += len(block)
            if answer.length is None and size > limit:
                raise DataError(
                    f"{url} does not end after {limit / 1e9:.1f} GB, and its server states no length; download it "
                    "yourself if you trust it, and give the file"
                )
            file.write(block)
            advance(len(block) // 1000)


def _partial(file: Path) -> Path:
    return file.with_name(file.name + ".partial")


def _beside(file: Path) -> Path:
    return file.with_name(file.name + ".json")


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _read_facts(file: Path) -> _Facts:
    """What the server said of a file when it came; nothing where that is not known."""
    try:
        found = json.loads(_beside(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return _Facts()
    if not isinstance(found, dict):
        return _Facts()
    etag, modified, total = (found.get(name) for name in _Facts._fields)
    return _Facts(
        etag if isinstance(etag, str) else None,
        modified if isinstance(modified, str) else None,
        total if isinstance(total, int) else None,
    )
