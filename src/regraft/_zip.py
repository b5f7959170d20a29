"""The entries of a zip: the directory by `zipfile`, with limits on what that may cost, the bytes by `_inflate`."""

from __future__ import annotations

import copy
import io
import itertools
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO

from regraft._inflate import Inflated, TooMuchError, zip_decoder
from regraft.errors import RegraftError

MAX_DIRECTORY = 48 * 2**20
"""The most bytes that the directory of a zip may have: `zipfile` holds it in memory, and objects made from it."""

MAX_ENTRIES = 400_000
"""The most entries that the directory of a zip may have: each takes `zipfile` about 400 bytes of memory."""

_PIECE = 2**16
_MAX_REASON = 200  # characters of what the library says: it quotes names of any length
_LOCAL_HEADER = 30  # bytes before an entry's name and data, at least
_ENCRYPTED, _UTF8 = 1, 0x800


class EntryError(Exception):
    """One entry cannot be read, though others may; the message is the reason."""


class Zip:
    """The entries of a zip file.

    Attributes:
        entries: all entries but folders, in the order of the directory.
    """

    def __init__(self, file: io.RawIOBase) -> None:
        """Read the directory of a file that is open without a buffer.

        Raises:
            TooMuchError: it is larger than one may be, or its entries lie on top of each other.
            Exception: whatever `zipfile` raises where it is damaged.
        """
        self._library = zipfile.ZipFile(_Directory(file))
        _check_places(self._library.infolist())
        self.entries = [entry for entry in self._library.infolist() if not entry.filename.endswith("/")]

    def data(self, entry: zipfile.ZipInfo, spend: Callable[[int], None]) -> Iterator[bytes]:
        """Yield the bytes of an entry, as many as the directory says, with the checksum that it says.

        Args:
            entry: one of `entries`.
            spend: is told how many bytes are decompressed, and raises a RegraftError or TooMuchError where those are
                too many.

        Raises:
            EntryError: the bytes are others, or cannot be read.
        """
        try:
            yield from self._data(entry, spend)
        except (RegraftError, TooMuchError, EntryError, GeneratorExit):
            raise
        except Exception as error:  # whatever the decoders raise on damaged bytes
            raise EntryError(str(error)[:_MAX_REASON] or type(error).__name__) from error

    def _data(self, entry: zipfile.ZipInfo, spend: Callable[[int], None]) -> Iterator[bytes]:
        if entry.external_attr >> 16 & 0o170000 not in (0, 0o100000):
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
    """The entry's name. Without the UTF-8 flag its bytes are taken as UTF-8, or Windows' Korean, where they fit."""
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
    """A zip's file, whose directory is read by `zipfile` in one piece: a piece that would cost too much is refused."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does. Raises TooMuchError for a piece that is too large, or names too many entries."""
        if size is not None and size > MAX_DIRECTORY:
            raise TooMuchError(f"has a directory of {size:,} bytes, more than the {MAX_DIRECTORY:,} that one may have")
        data = super().read(size)
        if data.count(b"PK\1\2") > MAX_ENTRIES:
            raise TooMuchError(f"has more than {MAX_ENTRIES:,} entries, too many for the memory that they would take")
        return data


def _check_places(entries: list[zipfile.ZipInfo]) -> None:
    """No two entries may share bytes: that is how a small zip becomes a large one without being compressed twice."""
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    for one, other in itertools.pairwise(ordered):
        if one.header_offset + _LOCAL_HEADER + one.compress_size > other.header_offset:
            raise TooMuchError("has entries that lie on top of each other, as those of a bomb do")


def _stored(entry: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """The entry as if it were not compressed: then `zipfile` gives its bytes as they lie there."""
    found = copy.copy(entry)
    found.compress_type, found.file_size = zipfile.ZIP_STORED, entry.compress_size
    found.CRC = None  # type: ignore[assignment]  # zipfile's own word for "unknown"
    return found


def _decompressed(raw: IO[bytes], entry: zipfile.ZipInfo, spend: Callable[[int], None]) -> IO[bytes] | Inflated:
    if entry.compress_type == zipfile.ZIP_STORED:
        return raw
    decoder = zip_decoder(entry.compress_type, raw)
    if decoder is None:
        raise EntryError(f"it is compressed by method {entry.compress_type}, which regraft does not know")
    return Inflated(raw, decoder, spend)
