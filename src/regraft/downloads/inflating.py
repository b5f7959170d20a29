"""Decompress gzip, bzip2, xz and zip data piece by piece, with a limit on the memory of the decoder.

The readers of the standard library have no such limits: `zipfile` decompresses one block of bzip2 or LZMA to any size,
`lzma.open` allocates up to 4 GiB if a header asks for it, and `gzip` reads a name of any length byte by byte.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MEMORY = 128 * 2**20
"""The most memory, in bytes, that an LZMA decoder may take. Files written by ``xz -9`` need half of it."""

_CHUNK = 2**14
"""Bytes of input that are read at a time. The decoder copies the input after the end of a stream, so that larger pieces
would make a file of many tiny streams slow."""
_GZIP, _RAW = 31, -15  # the argument wbits of zlib: with the header and checksum of gzip, and with neither


class TooMuchError(ValueError):
    """An archive exceeds a limit. The message lacks its subject, the name of the archive: "has more than …"."""


class Decoder(Protocol):
    """A decoder for one compressed stream, with the interface of `bz2.BZ2Decompressor` and `lzma.LZMADecompressor`."""

    @property
    def eof(self) -> bool:
        """Whether the end of the stream has been reached, with a correct checksum."""
        ...

    @property
    def needs_input(self) -> bool:
        """Whether the decoder needs more input before it can give more output."""
        ...

    @property
    def unused_data(self) -> bytes:
        """The input bytes after the end of the stream."""
        ...

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Decompress more input, and return at most ``max_length`` bytes of output."""
        ...


class _Zlib:
    """A `zlib.decompressobj` with the interface of a `Decoder`."""

    def __init__(self, kind: int) -> None:
        self._decoder = zlib.decompressobj(kind)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return not self._decoder.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)


class Inflated(io.RawIOBase):
    """A readable file of decompressed bytes. Consecutive compressed streams are joined; zeros after them are ignored.

    Reading raises EOFError if the compressed data are cut off, and the error of the decoder if they are damaged.
    """

    def __init__(self, raw: IO[bytes], decoder: Callable[[], Decoder], spend: Callable[[int], None]) -> None:
        """Prepare to decompress a file.

        Args:
            raw: the compressed file, open for reading.
            decoder: returns a new decoder for each stream.
            spend: called with the number of decompressed bytes of each piece. It raises an error if the total is too
                large.
        """
        self._raw = raw
        self._spend = spend
        self._new = decoder
        self._decoder = decoder()
        self._given = b""

    def readable(self) -> bool:
        """Return True: the file can be read."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Decompress into ``buffer``, and return the number of bytes written; 0 only at the end of the data."""
        view = memoryview(buffer)
        while not self._decoder.eof or self._next_stream():
            chunk = self._input() if self._decoder.needs_input else b""
            fed = bool(chunk) or not self._decoder.needs_input
            data = self._decoder.decompress(chunk, len(view))
            if data:
                self._spend(len(data))
                view[: len(data)] = data
                return len(data)
            if not fed and not self._decoder.eof:
                raise EOFError("the compressed data are cut off")
        return 0

    def _input(self) -> bytes:
        """Return the next compressed bytes; empty at the end of the file."""
        given, self._given = self._given, b""
        return given or self._raw.read(_CHUNK)

    def _next_stream(self) -> bool:
        """Begin the next compressed stream of the file. Return False if only zeros follow."""
        rest = self._decoder.unused_data.lstrip(b"\0")
        while not rest:
            chunk = self._input()
            if not chunk:
                return False
            rest = chunk.lstrip(b"\0")
        self._given, self._decoder = rest, self._new()
        return True


def decoder_of(head: bytes) -> Callable[[], Decoder] | None:
    """Return a function that makes a decoder for a compressed file.

    Args:
        head: the first 6 bytes of the file, or more.

    Returns:
        The function for a gzip, bzip2 or xz file; None for any other file.
    """
    if head.startswith(b"\x1f\x8b"):
        return lambda: _Zlib(_GZIP)
    if head.startswith(b"BZh"):
        return bz2.BZ2Decompressor
    if head.startswith(b"\xfd7zXZ\0"):
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, MEMORY)
    return None


def zip_decoder(method: int, raw: IO[bytes]) -> Callable[[], Decoder] | None:
    """Return a function that makes a decoder for an entry of a zip file.

    Args:
        method: the number of the compression method: 8 (deflate), 12 (bzip2) or 14 (LZMA).
        raw: the compressed bytes of the entry, from which the header of LZMA is read.

    Returns:
        The function; None if the method is unknown.

    Raises:
        lzma.LZMAError: the entry has no valid header of LZMA.
    """
    if method == 8:
        return lambda: _Zlib(_RAW)
    if method == 12:
        return bz2.BZ2Decompressor
    if method != 14:
        return None
    # The header in a zip: 2 bytes version, 2 bytes size of the properties (5), 5 bytes properties. Python can read the
    # format "alone", whose header is the properties and 8 bytes of length, where 0xff… stands for an unknown length.
    head = raw.read(9)
    if len(head) < 9 or head[2:4] != b"\5\0":
        raise lzma.LZMAError("no header of LZMA")
    begin = head[4:] + b"\xff" * 8

    def decoder() -> Decoder:
        made = lzma.LZMADecompressor(lzma.FORMAT_ALONE, MEMORY)
        made.decompress(begin, 0)
        return made

    return decoder
