"""Compressed bytes → bytes, a piece at a time, so that no input makes a decoder take more memory than it was granted.

The readers of the standard library trust their input here: `zipfile` lets one block of bzip2 or LZMA unfold as far as
it likes, `lzma.open` takes the 4 GiB that a header may ask for, and `gzip` reads a name of any length byte by byte.
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
"""The most bytes that a decoder of LZMA may take: what ``xz -9`` writes needs half of it."""

_CHUNK = 2**14  # what follows the end of a stream is copied: with larger pieces, many tiny streams cost too much
_GZIP, _RAW = 31, -15  # zlib's names for "with gzip's header and checksum" and "with neither"


class TooMuchError(ValueError):
    """An archive asks for more than it may have; the message goes on from its name: "has more than …"."""


class Decoder(Protocol):
    """One compressed stream, as `bz2.BZ2Decompressor` and `lzma.LZMADecompressor` show theirs."""

    @property
    def eof(self) -> bool:
        """Whether the stream's end was reached and its checksum is right."""
        ...

    @property
    def needs_input(self) -> bool:
        """Whether more output wants more input."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What followed the stream's end."""
        ...

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """At most ``max_length`` bytes of output."""
        ...


class _Zlib:
    """`zlib.decompressobj` with the face of a `Decoder`."""

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
    """The decompressed bytes of a file; streams that follow each other are one, and zeros after them do not count.

    Reading raises EOFError where the compressed bytes are cut off, and what the decoder raises where they are damaged.
    """

    def __init__(self, raw: IO[bytes], decoder: Callable[[], Decoder], spend: Callable[[int], None]) -> None:
        """Decompress ``raw``; ``spend`` is told how many bytes come out, and raises where those are too many."""
        self._raw = raw
        self._spend = spend
        self._new = decoder
        self._decoder = decoder()
        self._given = b""

    def readable(self) -> bool:
        """Reading is all that it can do."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Decompress into ``buffer``. Returns the number of bytes, 0 only at the end."""
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
        given, self._given = self._given, b""
        return given or self._raw.read(_CHUNK)

    def _next_stream(self) -> bool:
        rest = self._decoder.unused_data.lstrip(b"\0")
        while not rest:
            chunk = self._input()
            if not chunk:
                return False
            rest = chunk.lstrip(b"\0")
        self._given, self._decoder = rest, self._new()
        return True


def decoder_of(head: bytes) -> Callable[[], Decoder] | None:
    """The decoder for a file that begins with ``head``: gzip, bzip2 or xz; None for any other."""
    if head.startswith(b"\x1f\x8b"):
        return lambda: _Zlib(_GZIP)
    if head.startswith(b"BZh"):
        return bz2.BZ2Decompressor
    if head.startswith(b"\xfd7zXZ\0"):
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, MEMORY)
    return None


def zip_decoder(method: int, raw: IO[bytes]) -> Callable[[], Decoder] | None:
    """The decoder for a method of compression in a zip, whose header is read from ``raw``; None for an unknown one."""
    if method == 8:
        return lambda: _Zlib(_RAW)
    if method == 12:
        return bz2.BZ2Decompressor
    if method != 14:
        return None
    head = raw.read(9)  # version, size of the properties, properties; a file of kind "alone" has these and a length
    if len(head) < 9 or head[2:4] != b"\5\0":
        raise lzma.LZMAError("no header of LZMA")
    begin = head[4:] + b"\xff" * 8

    def decoder() -> Decoder:
        made = lzma.LZMADecompressor(lzma.FORMAT_ALONE, MEMORY)
        made.decompress(begin, 0)
        return made

    return decoder
