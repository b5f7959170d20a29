"""Read the entries of a zip file with limits on time and memory.

The library `zipfile` reads the directory of the zip, and the module `inflating` decompresses the entries.
"""

from __future__ import annotations

import copy
import io
import itertools
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO

from regraft.downloads.inflating import Inflated, TooMuchError, zip_decoder
from regraft.errors import RegraftError

MAX_DIRECTORY = 48 * 2**20
"""The greatest size of a zip's directory, in bytes: `zipfile` holds the directory and its entries in memory."""

MAX_ENTRIES = 400_000
"""The most entries in a zip's directory: each takes `zipfile` about 400 bytes of memory."""

_PIECE = 2**16  # bytes that are decompressed at a time
_MAX_REASON = 200  # characters of the library's error message, which may quote names of any length
_LOCAL_HEADER = 30  # the least size of the header before an entry's data, in bytes
_ENCRYPTED, _UTF8 = 1, 0x800  # flags of an entry


class EntryError(Exception):
    """One entry of an archive cannot be read, although others may be readable. The message is the reason."""


class Zip:
    """The entries of a zip file.

    Attributes:
        entries: all entries except folders, in the order of the directory.
    """

    def __init__(self, file: io.RawIOBase) -> None:
        """Read the directory of a zip file.

        Args:
            file: the zip file, open for reading without a buffer.

        Raises:
            TooMuchError: the directory is too large, or two entries share bytes of the file.
            Exception: the error of `zipfile` if the directory is damaged.
        """
        self._library = zipfile.ZipFile(_Directory(file))
        _check_places(self._library.infolist())
        self.entries: list[zipfile.ZipInfo] = [
            entry for entry in self._library.infolist() if not entry.filename.endswith("/")
        ]

    def data(self, entry: zipfile.ZipInfo, spend: Callable[[int], None]) -> Iterator[bytes]:
        """Yield the decompressed bytes of an entry, and check their number and their checksum.

        Args:
            entry: one of `entries`.
            spend: called with the number of bytes of each decompressed piece. It raises a RegraftError or TooMuchError
                if the total is too large.

        Raises:
            EntryError: the entry cannot be read, or its size or checksum differs from the directory.
        """
        try:
            yield from self._data(entry, spend)
        except (RegraftError, TooMuchError, EntryError, GeneratorExit):
            raise
        except Exception as error:  # whatever the decoders raise on damaged bytes
            raise EntryError(str(error)[:_MAX_REASON] or type(error).__name__) from error

    def _data(self, entry: zipfile.ZipInfo, spend: Callable[[int], None]) -> Iterator[bytes]:
        if entry.external_attr >> 16 & 0o170000 not in (0, 0o100000):  # Unix file type: not stated, or a regular file
            raise EntryError("it is neither a file nor a folder")
        if entry.flag_bits & _ENCRYPTED:
            raise EntryError("it has a password")
        with self._library.open(_stored(entry)) as raw:
            file = _decompressed(raw, entry, spend)
            left, check = entry.file_size, 0
            while left:
                piece = file.read(min(left, _PIECE))
                if not piece:
                    raise EntryError(f"{left:,} of its {entry.file_size:,} bytes are missing")
                left -= len(piece)
                check = zlib.crc32(piece, check)
                yield piece
        if check != entry.CRC:
            raise EntryError("its checksum is wrong")


def name_of(entry: zipfile.ZipInfo) -> str:
    """Return the name of an entry.

    If the entry has no UTF-8 flag, its bytes are read as UTF-8 or as the Korean code page of Windows (cp949), whichever
    fits first, and otherwise as cp437, which `zipfile` assumes.
    """
    if entry.flag_bits & _UTF8:
        return entry.filename
    raw = entry.filename.encode("cp437", "replace")
    if raw.isascii():
        return entry.filename
    for encoding in ("utf-8", "cp949"):
        with suppress(UnicodeDecodeError):
            return raw.decode(encoding)
    return entry.filename


class _Directory(io.BufferedReader):
    """A zip file for `zipfile`, which reads the directory in one piece. A piece that is too large raises an error."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read ``size`` bytes. Raises TooMuchError if the piece is too large or lists too many entries."""
        if size is not None and size > MAX_DIRECTORY:
            raise TooMuchError(f"has a directory of {size:,} bytes, more than the {MAX_DIRECTORY:,} that one may have")
        data = super().read(size)
        if data.count(b"PK\1\2") > MAX_ENTRIES:
            raise TooMuchError(f"has more than {MAX_ENTRIES:,} entries, too many for the memory that they would take")
        return data


def _check_places(entries: list[zipfile.ZipInfo]) -> None:
    """Raise TooMuchError if two entries share bytes of the file.

    A zip bomb can use the same compressed bytes for many entries, so that a small file unpacks to a huge size.
    """
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    for one, other in itertools.pairwise(ordered):
        if one.header_offset + _LOCAL_HEADER + one.compress_size > other.header_offset:
            raise TooMuchError("has entries that lie on top of each other, as those of a bomb do")


def _stored(entry: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """Return a copy of an entry that is marked as not compressed, so that `zipfile` returns the compressed bytes."""
    found = copy.copy(entry)
    found.compress_type, found.file_size = zipfile.ZIP_STORED, entry.compress_size
    found.CRC = None  # type: ignore[assignment]  # None tells zipfile not to check the checksum
    return found


def _decompressed(raw: IO[bytes], entry: zipfile.ZipInfo, spend: Callable[[int], None]) -> IO[bytes] | Inflated:
    """Return a file of an entry's decompressed bytes. Raises EntryError for an unknown compression method."""
    if entry.compress_type == zipfile.ZIP_STORED:
        return raw
    decoder = zip_decoder(entry.compress_type, raw)
    if decoder is None:
        raise EntryError(f"it is compressed by method {entry.compress_type}, which regraft does not know")
    return Inflated(raw, decoder, spend)
