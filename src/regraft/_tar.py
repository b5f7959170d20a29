"""The members of a tar, one after the other in one pass, for as much work and memory as the file itself is worth.

`tarfile` decodes the 512 bytes of a header here, and no more. What follows a header is read by us, since the library
takes names and pax headers of any length, looks for words in them with patterns that take quadratic time, goes back in
the file where a size is negative, and calls itself once for each header of a header.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from typing import IO, Literal, NamedTuple

MAX_HEADER = 2**20
"""The most bytes of one long name or one pax header: attributes of macOS are in some."""

_BLOCK = 512
_DIGITS = 18  # of a size: 10^18 bytes are enough, and fit into what a file can be asked to skip
_MAX_RECORDS = 200  # of one pax header; a real one has ten or twenty
_PIECE = 2**20

Kind = Literal["file", "folder", "symbolic link", "hard link", "sparse file", "neither a file nor a folder"]


class DamagedTarError(ValueError):
    """The bytes are not what the format prescribes, or ask for more than a tar of photos may."""


class Member(NamedTuple):
    """One member: its name as it stands there, the target of a link, and where its data lie in the tar, in bytes."""

    name: str
    kind: Kind
    target: str
    offset: int
    size: int


class Tar:
    """The members of a tar that is open for reading, in order.

    Attributes:
        whole: whether the zeros at the end of the tar were met; without them it may be cut off.
    """

    def __init__(self, file: IO[bytes], count: Callable[[], None] = lambda: None) -> None:
        """Read from where ``file`` stands. ``count`` is called for each header, and raises where those are too many."""
        self.whole = False
        self._file = file
        self._count = count
        self._place = 0
        self._next = 0

    def __iter__(self) -> Iterator[Member]:
        """Yield each member; its data can be read until the next.

        Raises:
            DamagedTarError: a header is damaged; what follows cannot be found.
        """
        while (member := self._member()) is not None:
            yield member

    def data(self, member: Member) -> Iterator[bytes]:
        """Yield the bytes of the member that was yielded last. Raises EOFError where they are cut off."""
        self._go(member.offset)
        left = member.size
        while left:
            piece = self._file.read(min(left, _PIECE))
            if not piece:
                raise EOFError("the tar is cut off within a file")
            self._place += len(piece)
            left -= len(piece)
            yield piece

    def _member(self) -> Member | None:
        self._go(self._next)
        more: dict[str, str] = {}
        while (found := self._header()) is not None:
            size = found.size
            if found.type == tarfile.GNUTYPE_LONGNAME:
                more["path"] = _text(self._extension(size).partition(b"\0")[0])
            elif found.type == tarfile.GNUTYPE_LONGLINK:
                more["linkpath"] = _text(self._extension(size).partition(b"\0")[0])
            elif found.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                more |= _pax(self._extension(size))
            elif found.type == tarfile.XGLTYPE:  # of all that follow: neither names nor sizes
                self._go(self._place + _padded(size))
            else:
                return self._finished(found, more)
        return None

    def _header(self) -> tarfile.TarInfo | None:
        """The next header; None at the end."""
        self._count()
        block = self._read(_BLOCK)
        if len(block) < _BLOCK:
            if block:
                raise DamagedTarError("cut off within a header")
            return None
        if block.count(0) == _BLOCK:
            self.whole = True
            return None
        try:
            found = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise DamagedTarError(f"a header is damaged: {error}") from error
        if not 0 <= found.size < 10**_DIGITS:
            raise DamagedTarError(f"a size of {found.size} bytes")
        if found.type == tarfile.GNUTYPE_SPARSE:
            more = block[482]
            while more:
                more = (self._read(_BLOCK) + bytes(_BLOCK))[504]
        return found

    def _extension(self, size: int) -> bytes:
        """The data of a header that belongs to the next one."""
        if size > MAX_HEADER:
            raise DamagedTarError(f"a header of {size:,} bytes, more than the {MAX_HEADER:,} that one may have")
        data = self._read(_padded(size))
        if len(data) < size:
            raise DamagedTarError("cut off within a header")
        return data[:size]

    def _finished(self, found: tarfile.TarInfo, more: dict[str, str]) -> Member:
        size = found.size
        if "size" in more:
            if not (more["size"].isascii() and more["size"].isdecimal() and len(more["size"]) <= _DIGITS):
                raise DamagedTarError("a size that is no number")
            size = int(more["size"])
        has_data = found.isreg() or found.type not in tarfile.SUPPORTED_TYPES
        self._next = self._place + (_padded(size) if has_data else 0)
        sparse = found.type == tarfile.GNUTYPE_SPARSE or any(name.startswith("GNU.sparse.") for name in more)
        name = more.get("GNU.sparse.name") or more.get("path") or found.name
        kind = "sparse file" if sparse else _kind(found)
        return Member(name, kind, more.get("linkpath") or found.linkname, self._place, size)

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._place += len(data)
        return data

    def _go(self, place: int) -> None:
        """Go forward to ``place``; a file that ends before is noticed by who reads there."""
        if self._file.seekable():
            self._file.seek(place - self._place, 1)
            self._place = place
        while self._place < place and self._read(min(place - self._place, _PIECE)):
            pass


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _kind(found: tarfile.TarInfo) -> Kind:
    if found.isdir():
        return "folder"
    if found.issym():
        return "symbolic link"
    if found.islnk():
        return "hard link"
    return "file" if found.isreg() else "neither a file nor a folder"


def _pax(data: bytes) -> dict[str, str]:
    """The records of a pax header, each ``LENGTH NAME=VALUE`` and a line end, LENGTH counting all of it."""
    found: dict[str, str] = {}
    place = 0
    for _ in range(_MAX_RECORDS):
        if place >= len(data) or not data[place]:
            return found
        digits, space, _ = data[place : place + _DIGITS].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        if length <= len(digits) + 1 or place + length > len(data):
            raise DamagedTarError("a pax header is damaged")
        name, equals, value = data[place + len(digits) + 1 : place + length - 1].partition(b"=")
        if not equals:
            raise DamagedTarError("a pax header is damaged")
        found[_text(name)] = _text(value)
        place += length
    raise DamagedTarError(f"a pax header of more than {_MAX_RECORDS} records")
