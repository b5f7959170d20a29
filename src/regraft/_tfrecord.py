"""TFRecord files of ``tf.train.Example`` messages: written, and found one's way about in, without TensorFlow.

A record is its length (8 bytes, little-endian), a checksum of that, the data, a checksum of the data. An Example is
a protobuf map from names to lists of bytes, floats or integers. A protobuf library would copy each photo out of its
message; here a value is told by its place in the file, so that a photo is read where it lies.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from google_crc32c import value as crc32c

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Span(NamedTuple):
    """Bytes ``start`` to ``stop`` of a file."""

    start: int
    stop: int


Feature = Sequence[Span] | Sequence[int]
"""The values of one name: where byte strings lie, or integers. Floats are passed over."""


class DamagedError(ValueError):
    """The bytes are not what the format prescribes."""


def frame(data: bytes) -> bytes:
    """``data`` as a record."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _FOOTER.pack(_masked(length)), data, _FOOTER.pack(_masked(data))))


def looks_like_records(head: bytes) -> bool:
    """Whether a file that begins with these 12 bytes is a TFRecord file: its first length must have its checksum."""
    return len(head) >= _HEADER.size and _masked(head[:8]) == _HEADER.unpack_from(head)[1]


def records(file: Path) -> Iterator[tuple[Span, dict[str, Feature], mmap.mmap]]:
    """Yield (place of the data, its features, the mapped file) for each record.

    Raises:
        DamagedError: a checksum is wrong or a record is cut off; what follows cannot be found.
    """
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as view:
        place = 0
        while place < len(view):
            if place + _HEADER.size > len(view):
                raise DamagedError("cut off within a record's length")
            length, check = _HEADER.unpack_from(view, place)
            if _masked(view[place : place + 8]) != check:
                raise DamagedError("a record's length has a wrong checksum")
            span = Span(place + _HEADER.size, place + _HEADER.size + length)
            place = span.stop + _FOOTER.size
            if place > len(view):
                raise DamagedError("cut off within a record")
            data = view[span.start : span.stop]
            if _masked(data) != _FOOTER.unpack_from(view, span.stop)[0]:
                raise DamagedError("a record has a wrong checksum")
            yield span, _features(data, span.start), view


def example(features: Mapping[str, bytes | str | int]) -> bytes:
    """A ``tf.train.Example`` with one value for each name, in the order of the names: the same bytes every time."""
    entries = []
    for name in sorted(features):
        value = features[name]
        if isinstance(value, int):
            feature = _field(3, _field(1, _varint(value)))  # Int64List, packed
        else:
            feature = _field(1, _field(1, value.encode() if isinstance(value, str) else value))  # BytesList
        entries.append(_field(1, _field(1, name.encode()) + _field(2, feature)))
    return _field(1, b"".join(entries))


def _masked(data: bytes) -> int:
    check: int = crc32c(data)
    return (((check >> 15) | (check << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF  # negative numbers in two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, data: bytes) -> bytes:
    length = len(data)
    head = bytes((number << 3 | _BYTES, length)) if length < 128 else bytes((number << 3 | _BYTES,)) + _varint(length)
    return head + data


def _features(data: bytes, base: int) -> dict[str, Feature]:
    found: dict[str, Feature] = {}
    for outer in _spans(data, Span(0, len(data)), 1):
        for entry in _spans(data, outer, 1):
            name = next(iter(_spans(data, entry, 1)), None)
            value = next(iter(_spans(data, entry, 2)), None)
            if name is not None and value is not None:
                found[data[name.start : name.stop].decode("utf-8", "replace")] = _values(data, value, base)
    return found


def _values(data: bytes, feature: Span, base: int) -> Feature:
    for values in _spans(data, feature, 1):
        return [Span(base + s.start, base + s.stop) for s in _spans(data, values, 1)]
    for values in _spans(data, feature, 3):
        return list(_integers(data, values))
    return []


def _spans(data: bytes, within: Span, wanted: int) -> Iterator[Span]:
    """The length-delimited fields of number ``wanted``."""
    for number, kind, value in _fields(data, within):
        if number == wanted and kind == _BYTES:
            yield value


def _integers(data: bytes, within: Span) -> Iterator[int]:
    for number, kind, value in _fields(data, within):
        place = value.start
        while number == 1 and kind in (_VARINT, _BYTES) and place < value.stop:  # packed, or one by one
            integer, place = _read_varint(data, place, value.stop)
            yield integer - 2**64 if integer >= 2**63 else integer


def _fields(data: bytes, within: Span) -> Iterator[tuple[int, int, Span]]:
    """Yield (number, wire type, place of the value) for each field of a message."""
    place = within.start
    while place < within.stop:
        tag, place = _read_varint(data, place, within.stop)
        number, kind = tag >> 3, tag & 7
        if kind == _BYTES:
            length, place = _read_varint(data, place, within.stop)
        elif kind == _VARINT:
            length = _read_varint(data, place, within.stop)[1] - place
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise DamagedError(f"a record is no tf.train.Example (wire type {kind})")
        if place + length > within.stop:
            raise DamagedError("a record is no tf.train.Example (a field is longer than its message)")
        yield number, kind, Span(place, place + length)
        place += length


def _read_varint(data: bytes, place: int, stop: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= stop:
            break
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise DamagedError("a record is no tf.train.Example (a number is cut off)")
