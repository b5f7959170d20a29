"""Read the members of a tar file in one pass, with limits on time and memory.

The library `tarfile` only decodes the 512 bytes of each header. This module reads everything else, since `tarfile` has
weaknesses that a hostile file can use. It accepts names and pax headers of any length, searches them with patterns that
take quadratic time, moves backwards in the file if a size is negative, and calls itself once for each extension header.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from typing import IO, Literal, NamedTuple

MAX_HEADER = 2**20
"""The greatest size of a long name or a pax header, in bytes. Some pax headers hold file attributes of macOS."""

_BLOCK = 512  # a tar consists of blocks of 512 bytes
_DIGITS = 18  # the most digits of a size: 10^18 bytes are enough, and `seek` still accepts such a number
_MAX_RECORDS = 200  # the most records of a pax header; a real header has ten or twenty
_PIECE = 2**20  # bytes that are read at a time

Kind = Literal["file", "folder", "symbolic link", "hard link", "sparse file", "neither a file nor a folder"]


class DamagedTarError(ValueError):
    """The bytes do not follow the tar format, or a header exceeds a limit."""


class Member(NamedTuple):
    """One member of a tar file.

    Attributes:
        name: the name as it is written in the tar, not yet checked.
        kind: the kind of the member.
        target: the target if the member is a link, else an empty text.
        offset: the position of the data in the tar, in bytes.
        size: the size of the data in bytes.
    """

    name: str
    kind: Kind
    target: str
    offset: int
    size: int


class Tar:
    """The members of an open tar file, in order.

    Attributes:
        whole: whether the block of zeros that ends a tar has been read. If it is missing, the tar may be cut off.
    """

    def __init__(self, file: IO[bytes], count: Callable[[], None] = lambda: None) -> None:
        """Prepare to read a tar.

        Args:
            file: the uncompressed tar, open for reading at its beginning.
            count: called once for each header. It raises an error if there are too many.
        """
        self.whole: bool = False
        self._file = file
        self._count = count
        self._place = 0
        self._next = 0

    def __iter__(self) -> Iterator[Member]:
        """Yield each member. The data of a member can be read by `data` until the next member is requested.

        Raises:
            DamagedTarError: a header is damaged. The members after it cannot be found.
        """
        while (member := self._member()) is not None:
            yield member

    def data(self, member: Member) -> Iterator[bytes]:
        """Yield the bytes of ``member``, the member that was yielded last. Raises EOFError if they are cut off."""
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
        """Return the next member, with the names and sizes of its extension headers; None at the end."""
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
            elif found.type == tarfile.XGLTYPE:  # attributes of all later members, without names or sizes
                self._go(self._place + _padded(size))
            else:
                return self._finished(found, more)
        return None

    def _header(self) -> tarfile.TarInfo | None:
        """Read and return the next header; None at the end of the tar."""
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
        if found.type == tarfile.GNUTYPE_SPARSE:  # skip the blocks that continue the list of a sparse file's parts
            more = block[482]
            while more:
                more = (self._read(_BLOCK) + bytes(_BLOCK))[504]
        return found

    def _extension(self, size: int) -> bytes:
        """Read and return the data of an extension header, which describes the next member."""
        if size > MAX_HEADER:
            raise DamagedTarError(f"a header of {size:,} bytes, more than the {MAX_HEADER:,} that one may have")
        data = self._read(_padded(size))
        if len(data) < size:
            raise DamagedTarError("cut off within a header")
        return data[:size]

    def _finished(self, found: tarfile.TarInfo, more: dict[str, str]) -> Member:
        """Return the member of a header, with the values ``more`` from its extension headers."""
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
        """Move forward to the position ``place``. If the file ends earlier, the next read returns too few bytes."""
        if self._file.seekable():
            self._file.seek(place - self._place, 1)
            self._place = place
        while self._place < place and self._read(min(place - self._place, _PIECE)):
            pass


def _padded(size: int) -> int:
    """Return a size in bytes rounded up to whole blocks."""
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
    """Return the records of a pax header by name.

    Each record is ``LENGTH NAME=VALUE`` and a line end. LENGTH is the number of bytes of the whole record.
    """
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
