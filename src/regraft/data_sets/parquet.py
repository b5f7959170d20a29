"""The source for Parquet files that hold the bytes of photos, copied once into the cache as TFRecord shards.

In: a file, a folder or a pattern. Out: the photos in it, with their labels.
Why: data sets are shared in this form, among others by the Hugging Face hub, and Spark and Ray Data write it.
Surprise: a page of a Parquet file is compressed as a whole, so that a photo in it cannot be read alone. A shard can.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from regraft.errors import DataError
from regraft.foundation import console
from regraft.foundation.cache_files import writable_place
from regraft.foundation.files import atomic_folder, digest_json, locked
from regraft.foundation.tfrecord import example, frame
from regraft.photos.images import Problem
from regraft.photos.sources.base import Entry, Listing, label_of, read_labels, side_of
from regraft.photos.sources.shards import label_by_number, label_by_text, listing_of, shard_files, sides_of
from regraft.photos.sources.tfrecord import read_shard

_IMAGES = ("image", "bytes", "content", "data", "image_bytes", "jpg", "jpeg", "png", "img")
_LABELS = ("label", "labels", "class", "cls", "category", "fine_label")
_ROWS = 64  # rows that are in memory at a time


class Parquet:
    """Parquet files with a column of bytes, or of ``{bytes, path}``, and a column ``label``.

    Columns ``split`` and ``group`` count. A label that is a number is named by ``labels.txt`` beside the file, or by
    what the `datasets` package has written into the file.
    """

    def accepts(self, spec: str) -> bool:
        """Return whether ``spec`` names Parquet files, the first of which has a column of bytes."""
        return bool(_files(spec))

    def list(self, spec: str) -> Listing:
        """Copy the photos into the cache, unless they are there, and list them.

        Raises:
            DataError: a file cannot be read, or no row has a photo and a label.
        """
        found: list[Entry | Problem] = []
        for file, side in sides_of(_files(spec)).items():
            for shard in sorted(_copied(file).glob("*.tfrecord")):
                found += read_shard(shard, side_of(shard.stem) or side, [])
        return listing_of(found, f"{spec} holds no row with a photo and a label")


def _files(spec: str) -> list[Path]:
    """Return the Parquet files that ``spec`` names; empty unless the first of them has a column of bytes."""
    place = os.path.expanduser(spec)  # noqa: PTH111 (it takes any text, unlike that of pathlib)
    # A folder of a million photos is told by its names alone, before any of its files is looked at.
    if ".parquet" not in spec and not (os.path.isdir(place) and any(map(_is_named, os.listdir(place)))):  # noqa: PTH112, PTH208
        return []
    return shard_files(spec, lambda file: _columns_of(file) is not None)


def _is_named(name: str) -> bool:
    return name.endswith(".parquet")


class _Columns(NamedTuple):
    """The names of the columns, each empty where there is none, and the names of the classes by their numbers."""

    image: str
    label: str
    split: str
    group: str
    classes: list[str]


def _columns_of(file: Path) -> _Columns | None:
    """Return the columns of a Parquet file; None if it is none, or has no column of bytes or no label."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with file.open("rb") as opened:
            if opened.read(4) != b"PAR1":
                return None
        schema = parquet.read_schema(file)
    except (OSError, ValueError, pa.ArrowException):
        return None
    bytes_of = [field.name for field in schema if _has_bytes(field.type)]
    image = next((name for name in _IMAGES if name in bytes_of), "")
    if not image and len(bytes_of) == 1 and "path" not in schema.names:  # else it is a table of files
        image = bytes_of[0]
    label = next((name for name in _LABELS if name in schema.names), "")
    if not image or not label:
        return None
    split, group = (name if name in schema.names else "" for name in ("split", "group"))
    return _Columns(image, label, split, group, _class_names(schema.metadata or {}, label) or read_labels(file.parent))


def _has_bytes(kind: Any) -> bool:
    """Return whether a column holds bytes, or records with ``bytes``, as the package `datasets` writes photos."""
    import pyarrow as pa

    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _class_names(metadata: Mapping[bytes, bytes], label: str) -> list[str]:
    """Return the names of the classes that the package `datasets` has written into a file; empty if there are none."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []
    return [label_of(str(name)) for name in names] if isinstance(names, list) else []


def _copied(file: Path) -> Path:
    """Return the folder of the shards in the cache that have the photos of a Parquet file."""
    import pyarrow as pa

    columns, status = _columns_of(file), file.stat()
    if columns is None:
        raise DataError(f"{file} has no column of photos as bytes, or no column label, as the other files have")
    key = digest_json([str(file.resolve()), status.st_size, status.st_mtime_ns, list(columns)])
    place = writable_place("unpacked", f"parquet-{key[:16]}")
    with locked(place.with_suffix(".lock")):
        if not place.is_dir():
            try:
                with atomic_folder(place) as fresh:
                    _copy(file, columns, fresh)
            except (OSError, ValueError, pa.ArrowException) as error:
                raise DataError(
                    f"{file} cannot be copied into the cache: {' '.join(str(error).split())[:300]}"
                ) from error
    return place


def _copy(file: Path, columns: _Columns, folder: Path) -> None:
    """Write the photos of a file, with their bytes unchanged, as one shard for each side that rows name."""
    from pyarrow import parquet

    opened, shards = parquet.ParquetFile(file), dict[str, BinaryIO]()
    names = [name for name in columns[:4] if name]
    with ExitStack() as stack, console.progress("copying", opened.metadata.num_rows) as advance:
        for batch in opened.iter_batches(_ROWS, columns=names):
            for row in batch.to_pylist():
                side = side_of(str(row.get(columns.split) or "")) or "all"
                if side not in shards:
                    shards[side] = stack.enter_context((folder / f"{side}.tfrecord").open("wb"))
                shards[side].write(frame(example(dict(_features(row, columns)))))
            advance(len(batch))


def _features(row: Mapping[str, Any], columns: _Columns) -> Iterator[tuple[str, bytes | str]]:
    """Yield the features of a row; none for what it lacks, so that its record becomes a problem."""
    photo, label = row[columns.image], row[columns.label]
    data = photo.get("bytes") if isinstance(photo, dict) else photo
    if data:
        yield "image/encoded", bytes(data)
    if isinstance(label, int) and not isinstance(label, bool):
        yield "image/class/text", label_by_number(label, columns.classes)
    elif isinstance(label, str):
        yield "image/class/text", label_by_text(label, columns.classes)
    if columns.group and row[columns.group] is not None:
        yield "image/regraft/group", str(row[columns.group])
