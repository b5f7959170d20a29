"""The source for TFRecord shards of ``tf.train.Example`` messages, with the keys of TensorFlow's Inception pipeline."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from regraft.foundation.tfrecord import DamagedError, Feature, Span, looks_like_records, records
from regraft.photos.images import Part, Problem
from regraft.photos.sources.base import Entry, Listing, Side, label_of, origin_of, read_labels
from regraft.photos.sources.shards import certainty_of, label_by_number, listing_of, shard_files, sides_of

_IMAGE = ("image/encoded", "image_raw", "image")
_NUMBER = ("image/class/label", "label")
_TEXT = "image/class/text"
_GROUP = "image/regraft/group"
_ORIGIN = "image/regraft/digest"
_PROBABILITY = "image/regraft/probability"
_MAX_LABEL = 4000  # bytes of a class name
_MAX_PROBLEMS = 1000  # bad records, after which a shard is not read further


class TFRecord:
    """A folder of shards, a pattern such as ``train-*``, or one file. Photos are read from the shard without unpacking.

    If a record has only a class index, ``labels.txt`` beside the shards gives the class names, line 1 for class 0.
    """

    def accepts(self, spec: str) -> bool:
        """Return whether ``spec`` names TFRecord shards, by the content of the first file."""
        return bool(shard_files(spec, _is_shard))

    def list(self, spec: str) -> Listing:
        """List the records. A damaged shard is read up to the damage, and becomes a problem.

        Raises:
            DataError: no record has a photo and a label.
        """
        found: list[Entry | Problem] = []
        for file, side in sides_of(shard_files(spec, _is_shard)).items():
            found += read_shard(file, side, read_labels(file.parent))
        return listing_of(found, f"{spec} holds no record with {' or '.join(_IMAGE)} and {_TEXT} or {_NUMBER[0]}")


def read_shard(
    file: Path, side: Side | None, labels: list[str], image: Sequence[str] = _IMAGE, number: Sequence[str] = _NUMBER
) -> Iterator[Entry | Problem]:
    """Yield the photo of each record of a shard in order, or what is wrong with the record.

    Args:
        file: the shard.
        side: the side of the split of all its photos.
        labels: the class names, for records that have only a class index.
        image: the keys under which the photo's bytes may be.
        number: the keys under which the class index or the class name may be.
    """
    problems = 0
    try:
        for place, (_, features, view) in enumerate(records(file)):
            if problems > _MAX_PROBLEMS:
                raise DamagedError(f"more than {_MAX_PROBLEMS:,} records without a photo or a label")
            path = Path(f"{file}#{place}")
            photo = next((values[0] for name in image if (values := features.get(name))), None)
            label = _label(features, labels, view, number)
            if isinstance(photo, Span) and label:
                part = Part(file, photo.start, photo.stop - photo.start)
                ours = (_text(features.get(name, ()), view) for name in (_GROUP, _ORIGIN, _PROBABILITY))
                group, origin, probability = ours
                yield Entry(path, label, side, group or None, part, origin_of(origin), certainty_of(probability))
            else:
                problems += 1
                yield Problem(path, "a record without a photo" if label else "a record without a label")
    except (DamagedError, OSError, ValueError) as error:
        yield Problem(file, f"{error}; what comes after it is lost")


def _label(features: Mapping[str, Feature], labels: list[str], view: mmap.mmap, number: Sequence[str]) -> str:
    """Return the label of a record: its text, or else the class name of its index; empty if it has none."""
    for name in (_TEXT, *number):
        for value in features.get(name, ())[:1]:
            if isinstance(value, int):
                return label_by_number(value, labels)
            if value.stop > value.start:
                if value.stop - value.start > _MAX_LABEL:
                    return ""
                return label_of(view[value.start : value.stop].decode("utf-8", "replace"))
    return ""


def _text(values: Feature, view: mmap.mmap) -> str:
    """Return the first value of a feature as text; empty if it is missing or not a text."""
    value = values[0] if values else None
    return view[value.start : value.stop].decode("utf-8", "replace") if isinstance(value, Span) else ""


def _is_shard(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return looks_like_records(opened.read(12))
    except OSError:
        return False
