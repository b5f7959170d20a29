"""Hostile tars and zips, byte by byte: what no library would write."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from tests.conftest import draw_photo

BLOCK = 512
END = bytes(2 * BLOCK)


def photo(seed: int = 0) -> bytes:
    """A small real JPEG."""
    from tests.conftest import SHAPES

    file = io.BytesIO()
    draw_photo(SHAPES["circle"], seed, (32, 24)).save(file, "JPEG")
    return file.getvalue()


def header(name: str | bytes = "a/1.jpg", size: int = 0, kind: bytes = b"0", **more: bytes) -> bytes:
    """One header of a tar. ``more`` overwrites fields: ``size=``-like bytes, ``sparse``, ``linkname``, ``checksum``."""
    made = tarfile.TarInfo("x")
    made.type = kind
    block = bytearray(made.tobuf(tarfile.GNU_FORMAT))
    raw = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    block[0:100] = raw[:100].ljust(100, b"\0")
    block[124:136] = b"%011o\0" % size if 0 <= size < 8**11 else struct.pack(">B", 0x80) + size.to_bytes(11, "big")
    for field, (start, stop) in {"raw_size": (124, 136), "linkname": (157, 257), "sparse": (386, 496)}.items():
        if field in more:
            block[start:stop] = more[field].ljust(stop - start, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = more.get("checksum", b"%06o\0 " % sum(block))
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def member(name: str | bytes, data: bytes, kind: bytes = b"0", **more: bytes) -> bytes:
    return header(name, len(data), kind, **more) + padded(data)


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    """A pax header with ``name=value`` records."""
    lines = []
    for record in records:
        length = len(record) + 2
        while length != len(str(length)) + len(record) + 2:
            length = len(str(length)) + len(record) + 2
        lines.append(b"%d %s\n" % (length, record))
    return member("pax", b"".join(lines), kind)


def photos(count: int = 2, label: str = "good") -> bytes:
    """Good members of a tar."""
    return b"".join(member(f"{label}/{i}.jpg", photo(i)) for i in range(count))


class Deflated:
    """A gzip file from pieces, where a piece that comes many times is compressed once."""

    def __init__(self) -> None:
        self._packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        self._parts: list[bytes] = []

    def add(self, data: bytes, times: int = 1) -> Deflated:
        self._parts.append(self._packer.flush(zlib.Z_FULL_FLUSH))
        one = self._packer.compress(data) + self._packer.flush(zlib.Z_FULL_FLUSH)
        self._parts += [one] * times
        return self

    def file(self, check: bytes = bytes(8)) -> bytes:
        """The file, with a wrong checksum unless one is given: nobody gets that far."""
        return b"\x1f\x8b\x08" + bytes(7) + b"".join(self._parts) + self._packer.flush() + check


def tgz(data: bytes) -> bytes:
    return gzip.compress(data, 1)


def zipped(
    entries: Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED, to: Path | None = None
) -> bytearray:
    """A zip as the library writes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as opened:
        for name, data in entries:
            opened.writestr(name, data)
    return bytearray(file.getvalue())


def good_zip(method: int = zipfile.ZIP_DEFLATED) -> bytearray:
    """Three photos, the first of which tests then damage."""
    return zipped([(f"good/{i}.jpg", photo(i)) for i in range(3)], method)


def patch(
    data: bytearray, entry: int, *, local: dict[int, bytes] | None = None, central: dict[int, bytes]
) -> bytearray:
    """Overwrite bytes of an entry's header in the directory, and of its local header, at offsets within them."""
    places = [place for place in range(len(data)) if data.startswith(b"PK\1\2", place)]
    start = places[entry]
    (begin,) = struct.unpack_from("<L", data, start + 42)
    for at, value in central.items():
        data[start + at : start + at + len(value)] = value
    for at, value in (local or {}).items():
        data[begin + at : begin + at + len(value)] = value
    return data


def directory(records: bytes, count: int, offset: int = 0) -> bytes:
    """A zip that is nothing but a directory."""
    count = min(count, 0xFFFF)
    return records + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(records), offset, 0)


def record(name: bytes, offset: int = 0, size: int = 0) -> bytes:
    """An entry of a zip's directory."""
    fields = (b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 33, 0, size, size, len(name), 0, 0, 0, 0, 0, offset)
    return struct.pack("<4s4B4HL2L5H2L", *fields) + name
