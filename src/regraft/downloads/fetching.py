"""Download a file from the web into the cache, resume an interrupted download, and check the result.

The answer of the server must fit the request: if the server sends another range, or a range of another file, it is not
appended to the partial file.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from regraft.downloads.address import Address, parse
from regraft.downloads.http import Answer, BrokenError, ask
from regraft.errors import DataError
from regraft.foundation import console
from regraft.foundation.cache_files import writable_place
from regraft.foundation.files import atomic_file, digest_bytes, digest_file, locked, write_json

MAX_UNSTATED = 2**33
"""The greatest size, in bytes, of a download whose length the server does not state."""

_TRIES = 4
"""The number of failed requests in a row after which a download is given up."""
_PAUSE = 0.5
"""The pause before the second request, in seconds. It doubles before each further request."""
_PROGRESS_BYTES = 2**20
"""A failed request that brought at least so many bytes does not count: the download moves forward and will finish."""
_TEMPORARY_STATUS = (408, 425, 429, 500, 502, 503, 504)
"""The HTTP status codes of temporary failures, after which another request may succeed."""


class _AgainError(Exception):
    """The server was reached, but the request failed. Another request may succeed. The message is the reason."""


class _Facts(NamedTuple):
    """The headers by which a later version of a file on a server can be told from this one.

    Attributes:
        etag: the header ETag.
        modified: the header Last-Modified.
        total: the size of the whole file in bytes.
    """

    etag: str | None = None
    modified: str | None = None
    total: int | None = None

    @property
    def validator(self) -> str | None:
        """The value for the header If-Range; None if the server gave none.

        It proves that the rest of a file belongs to the part already downloaded. A weak ETag (``W/``) does not prove
        this, so that the time of the last change is used instead.
        """
        return self.modified if self.etag is None or self.etag.startswith("W/") else self.etag


def fetch(url: str) -> Path:
    """Download the file at ``url``, or take it from the cache if the server says that the file has not changed.

    If the server cannot be reached, a file that was downloaded before is used, with a note.

    Args:
        url: an http or https URL. If it ends in ``#sha256=<64 digits>``, the digest of the content is checked.

    Returns:
        The path of the downloaded file in the cache.

    Raises:
        DataError: the file cannot be downloaded, or its digest is wrong. If the download broke off, the part that was
            received is kept for the next call.
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
    """Delete a file that `fetch` returned and that is damaged, so that the next `fetch` downloads it again."""
    for path in (file, _partial(file)):
        path.unlink(missing_ok=True)
        _beside(path).unlink(missing_ok=True)


def _fetch(address: Address, file: Path) -> None:
    """Bring ``file`` up to date, and check its digest. Nothing is requested if the digest is already right."""
    wanted = address.sha256
    if not (wanted and file.is_file() and digest_file(file) == wanted):
        _download(address.url, file)
    if wanted and (found := digest_file(file)) != wanted:
        forget(file)
        raise DataError(f"{address.url} has SHA-256 {found}, not {wanted} as asked; it was thrown away")


def _download(url: str, file: Path) -> None:
    """Send requests until the file is complete. Raises DataError after `_TRIES` failed requests in a row."""
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
                return console.note(f"{url} cannot be reached ({reason}): taken as it was downloaded before")
        except _AgainError as error:
            reason = str(error)
        tries = 0 if _size(partial) - before >= _PROGRESS_BYTES else tries + 1
    size = _size(partial)
    kept = f"; {size / 1e6:.0f} MB are kept, the same command goes on" if size else ""
    raise DataError(f"{url} cannot be downloaded: {reason}{kept}")


def _try_once(url: str, file: Path) -> None:
    """Send one request for the missing part of the file, and put the file in place if it is then complete."""
    partial = _partial(file)
    known = _read_facts(file if file.is_file() else partial)
    headers = _conditions(file, known)
    with ask(url, headers) as answer:
        if answer.status == 304 and {"If-None-Match", "If-Modified-Since"} & set(headers):
            return
        start, total = _extent(answer, headers, known, partial)
        if answer.status != (206 if start else 200):
            refused = f"the server answers {answer.status} {answer.reason}".strip()
            if answer.status in _TEMPORARY_STATUS:
                raise _AgainError(refused)
            raise DataError(f"{url} cannot be downloaded: {refused}")
        facts = _Facts(answer.header("ETag"), answer.header("Last-Modified"), total)
        write_json(_beside(partial), facts._asdict())
        _receive(url, answer, partial, start)
    if total is not None and _size(partial) != total:
        raise _AgainError(f"the connection ended after {_size(partial):,} of {total:,} bytes")
    # First remove the headers of the old file. A kill between these lines then costs one more download; otherwise the
    # old headers could stand beside the new file.
    _beside(file).unlink(missing_ok=True)
    with atomic_file(file) as fresh:
        partial.replace(fresh)
    _beside(partial).replace(_beside(file))


def _conditions(file: Path, known: _Facts) -> dict[str, str]:
    """Return the request headers that ask only for a changed file, or for the missing part of a partial file."""
    headers = {"User-Agent": "regraft", "Accept-Encoding": "identity"}
    size = _size(_partial(file))
    if file.is_file():
        headers |= {"If-None-Match": known.etag} if known.etag else {}
        headers |= {"If-Modified-Since": known.modified} if known.modified else {}
    elif size and known.validator:
        headers |= {"Range": f"bytes={size}-", "If-Range": known.validator}
    return headers


def _extent(answer: Answer, headers: dict[str, str], known: _Facts, partial: Path) -> tuple[int, int | None]:
    """Return the position in the file at which the body of the answer begins, and the file's size if it is known.

    Raises:
        _AgainError: the body is another part than was requested, or belongs to another file. The partial file has been
            deleted.
    """
    if answer.status == 416 and "Range" in headers:  # the file on the server is shorter than the partial file
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
    """Write the body of the answer to the file ``partial``, beginning at byte ``start``.

    Raises:
        DataError: the body is larger than the free disk space, or larger than `MAX_UNSTATED` without a stated length.
    """
    free = shutil.disk_usage(partial.parent).free
    if (answer.length or 0) > free:
        raise DataError(f"{url} has {(answer.length or 0) / 1e9:.1f} GB, more than is free in {partial.parent}")
    limit = min(free, MAX_UNSTATED)
    total = None if answer.length is None else (start + answer.length) // 1000
    with partial.open("r+b" if start else "wb") as file, console.progress("downloading kB", total) as advance:
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
    """Return the path that holds the incomplete download of ``file``."""
    return file.with_name(file.name + ".partial")


def _beside(file: Path) -> Path:
    """Return the path of the JSON file that holds the server's headers for ``file``."""
    return file.with_name(file.name + ".json")


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _read_facts(file: Path) -> _Facts:
    """Return the headers that the server sent with a file; empty `_Facts` if they are not known."""
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
