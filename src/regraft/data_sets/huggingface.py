"""The source ``hf:NAME`` or ``hf:FOLDER``: a Hugging Face data set, copied once into the cache as shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regraft.errors import DataError
from regraft.foundation import console
from regraft.foundation.cache_files import writable_place
from regraft.foundation.files import atomic_file, digest_json
from regraft.foundation.tfrecord import example, frame
from regraft.photos.images import Problem
from regraft.photos.sources.base import Entry, Listing, Side, label_of, side_of
from regraft.photos.sources.shards import listing_of
from regraft.photos.sources.tfrecord import read_shard

_SAVED = ("dataset_dict.json", "state.json")


class HuggingFace:
    """A data set of the package ``datasets``: a name on the hub, a folder, or a folder that ``save_to_disk`` wrote."""

    def accepts(self, spec: str) -> bool:
        """Return whether ``spec`` begins with ``hf:``, or is a folder that ``save_to_disk`` wrote."""
        return spec.startswith("hf:") or any((Path(spec).expanduser() / name).is_file() for name in _SAVED)

    def list(self, spec: str) -> Listing:
        """Load the data set, copy it into the cache, and list it. Its train, validation and test are the split.

        Raises:
            DataError: the package ``datasets`` is missing or cannot load the data set, or the data set has no column
                of photos or no label column.
        """
        found: list[Entry | Problem] = []
        splits = _load(spec.removeprefix("hf:"))
        sides = {name: side_of(name) for name in splits}
        kept = "train" in sides.values() and len(set(sides.values()) - {None}) > 1
        for name, rows in splits.items():
            if kept and sides[name] is None:
                console.note(f"the split {name} is neither train, validation nor test: left out")
            else:
                found += _list(rows, sides[name] if kept else None, spec)
        return listing_of(found, f"{spec} holds no photo")


def _load(name: str) -> dict[str, Any]:
    """Load a data set, and return its splits by name; a data set without splits is called ``all``."""
    try:
        import datasets
    except ImportError as error:
        raise DataError("hf: data sets need a package; type: pip install 'regraft[hf]'") from error
    folder = Path(name).expanduser()
    saved = any((folder / mark).is_file() for mark in _SAVED)
    try:
        loaded = datasets.load_from_disk(str(folder)) if saved else datasets.load_dataset(name)
    except Exception as error:  # the package raises errors of many types
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise DataError(f"Hugging Face datasets cannot load {name!r}: {first}") from error
    return dict(loaded) if isinstance(loaded, dict) else {"all": loaded}


def _list(rows: Any, side: Side | None, spec: str) -> Iterator[Entry | Problem]:
    """Copy one split into a shard in the cache, unless it is there, and list the shard."""
    import datasets

    image = next((n for n, f in rows.features.items() if isinstance(f, datasets.Image)), None)
    classes = [n for n, f in rows.features.items() if isinstance(f, datasets.ClassLabel)]
    label = next(iter(classes), "label" if "label" in rows.features else None)
    if image is None or label is None:
        raise DataError(f"{spec} has columns {', '.join(rows.features)}; wanted an Image and a ClassLabel")
    names = rows.features[label].names if classes else None
    key = digest_json([rows._fingerprint, image, label])  # a fingerprint of the content and all changes to it
    shard = writable_place("unpacked", f"{key[:16]}.tfrecord")
    if not shard.is_file():
        _copy(rows.select_columns([image, label]).cast_column(image, datasets.Image(decode=False)), names, shard)
    return read_shard(shard, side, [])


def _copy(rows: Any, names: list[str] | None, shard: Path) -> None:
    """Write the photo of each row, with its bytes unchanged, and the label to a TFRecord shard."""
    image, label = rows.column_names
    with atomic_file(shard) as path, path.open("wb") as file, console.progress("copying", len(rows)) as advance:
        for row in rows:
            photo, value = row[image] or {}, row[label]
            data = photo.get("bytes")
            if data is None and photo.get("path"):
                data = Path(photo["path"]).read_bytes()
            text = "" if value is None else names[value] if names and isinstance(value, int) else str(value)
            file.write(frame(example({"image/encoded": data or b"", "image/class/text": label_of(text)})))
            advance()
