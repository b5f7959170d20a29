"""Write and read TFRecord files of ``tf.train.Example`` messages, without TensorFlow.

A record consists of the length of the data (8 bytes, little-endian), a checksum of the length, the data, and a checksum
of the data. An Example is a protobuf map from names to lists of bytes, floats or integers. A protobuf library would
copy each photo out of its message. This module returns the position of a value in the file instead, so that a photo can
be read without a copy.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from google_crc32c import extend
from google_crc32c import value as crc32c

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # the wire types of protobuf
_MAX_FIELDS = 10_000
"""The most fields that are read in a record, so that even a record of many tiny fields takes only milliseconds."""
_MAX_NAME = 1000  # bytes of a feature's name; the rest is cut off
_PIECE = 2**20  # bytes of the file for which the checksum is computed at a time


class Span(NamedTuple):
    """The bytes of a file from position ``start`` up to, but without, position ``stop``."""

    start: int
    stop: int


Feature = Sequence[Span] | Sequence[int]
"""The first value of a feature, or nothing if the feature is empty.

A value is the position of a byte string in the file, or an integer. Floats are ignored."""


class DamagedError(ValueError):
    """The bytes do not follow the TFRecord or protobuf format."""


def frame(data: bytes) -> bytes:
    """Return ``data`` as a TFRecord record, with its length and checksums."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _FOOTER.pack(_masked(length)), data, _FOOTER.pack(_masked(data))))


def looks_like_records(head: bytes) -> bool:
    """Return whether a file that begins with ``head`` (12 bytes) is a TFRecord file.

    The first 8 bytes are the length of the first record. The next 4 bytes must be the checksum of the length.
    """
    return len(head) >= _HEADER.size and _masked(head[:8]) == _HEADER.unpack_from(head)[1]


def records(file: Path) -> Iterator[tuple[Span, dict[str, Feature], mmap.mmap]]:
    """Read the records of a TFRecord file in order.

    Yields:
        For each record, the position of its data, its features by name, and the file mapped into memory.

    Raises:
        DamagedError: a checksum is wrong, or a record is cut off. The records after it cannot be found.
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
            if _checksum(view, span) != _FOOTER.unpack_from(view, span.stop)[0]:
                raise DamagedError("a record has a wrong checksum")
            yield span, _Message(view).features(span), view


def example(features: Mapping[str, bytes | str | int]) -> bytes:
    """Return the bytes of a ``tf.train.Example`` message with one value for each name.

    The features are sorted by name, so that equal features always give equal bytes.
    """
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
    return _mask(crc32c(data))


def _mask(check: int) -> int:
    """Return a CRC-32C rotated and shifted as the TFRecord format demands."""
    return (((check >> 15) | (check << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _checksum(view: mmap.mmap, span: Span) -> int:
    """Return the masked checksum of a part of the file, which is read in pieces to save memory."""
    check = 0
    for start in range(span.start, span.stop, _PIECE):
        check = extend(check, view[start : min(start + _PIECE, span.stop)])
    return _mask(check)


def _varint(value: int) -> bytes:
    """Return an integer in protobuf's encoding: 7 bits a byte, lowest first; all but the last byte have bit 8 set."""
    value &= 0xFFFFFFFFFFFFFFFF  # negative numbers in two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, data: bytes) -> bytes:
    """Return a protobuf field that holds bytes: its number and wire type, the length, and the data."""
    length = len(data)
    head = bytes((number << 3 | _BYTES, length)) if length < 128 else bytes((number << 3 | _BYTES,)) + _varint(length)
    return head + data


class _Message:
    """A reader for the nested protobuf messages of one record. It returns positions in the file, not copies.

    Args:
        data: the file, mapped into memory.
    """

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._left = _MAX_FIELDS

    def features(self, record: Span) -> dict[str, Feature]:
        """Return the features of a ``tf.train.Example`` by name.

        Raises:
            DamagedError: the record is not a ``tf.train.Example``.
        """
        found: dict[str, Feature] = {}
        for outer in self._spans(record, 1):
            for entry in self._spans(outer, 1):
                name = next(self._spans(entry, 1), None)
                value = next(self._spans(entry, 2), None)
                if name is not None and value is not None:
                    text = self._data[name.start : min(name.stop, name.start + _MAX_NAME)]
                    found[text.decode("utf-8", "replace")] = self._value(value)
        return found

    def _value(self, feature: Span) -> Feature:
        for values in self._spans(feature, 1):
            return list(islice(self._spans(values, 1), 1))
        for values in self._spans(feature, 3):
            return list(islice(self._integers(values), 1))
        return []

    def _spans(self, within: Span, wanted: int) -> Iterator[Span]:
        """Yield the positions of the length-delimited fields with the number ``wanted``."""
        for number, kind, value in self._fields(within):
            if number == wanted and kind == _BYTES:
                yield value

    def _integers(self, within: Span) -> Iterator[int]:
        """Yield the integers of an Int64List: the first of each field, packed or not."""
        for number, kind, value in self._fields(within):
            if number == 1 and kind in (_VARINT, _BYTES) and value.start < value.stop:  # one by one, or packed
                integer, _ = self._varint(value.start, value.stop)
                yield integer - 2**64 if integer >= 2**63 else integer

    def _fields(self, within: Span) -> Iterator[tuple[int, int, Span]]:
        """Yield the number, the wire type and the position of the value for each field of a message."""
        place = within.start
        while place < within.stop:
            self._left -= 1
            if self._left < 0:
                raise DamagedError(f"a record of more than {_MAX_FIELDS:,} fields")
            tag, place = self._varint(place, within.stop)
            number, kind = tag >> 3, tag & 7
            if kind == _BYTES:
                length, place = self._varint(place, within.stop)
            elif kind == _VARINT:
                length = self._varint(place, within.stop)[1] - place
            elif kind in (_FIXED64, _FIXED32):
                length = 8 if kind == _FIXED64 else 4
            else:
                raise DamagedError(f"a record is no tf.train.Example (wire type {kind})")
            if place + length > within.stop:
                raise DamagedError("a record is no tf.train.Example (a field is longer than its message)")
            yield number, kind, Span(place, place + length)
            place += length

    def _varint(self, place: int, stop: int) -> tuple[int, int]:
        """Return the integer that begins at ``place``, and the position after it."""
        value = 0
        for shift in range(0, 70, 7):  # an integer of 64 bits takes at most 10 bytes
            if place >= stop:
                break
            byte = self._data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, place
        raise DamagedError("a record is no tf.train.Example (a number is cut off)")
