"""Write labelled photos as TFRecord or WebDataset shards, which TensorFlow, PyTorch and others can stream.

In: a folder of labelled photos, or any other spec that a source accepts. Out: a folder of shards, and ``labels.txt``.
Why: many training programs read a few large files much faster than a hundred thousand small ones.
Surprise: the same photos give the same bytes, whatever the number of workers.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from regraft.config.levels import Levels
from regraft.config.sharding import ShardConfig
from regraft.config.values import options_of
from regraft.errors import ConfigError, DataError, ImageError
from regraft.features.elsewhere import Cluster, cluster_in_use
from regraft.foundation import console
from regraft.foundation.documents import MEBIBYTE, mended, read_text
from regraft.foundation.files import as_path, naming, threads, write_json, write_text
from regraft.foundation.places import Product, claimed
from regraft.foundation.tfrecord import example, frame
from regraft.photos.dataset import Dataset, ImageRecord
from regraft.photos.images import Portable, Problem, portable
from regraft.photos.sources.base import SIDES, Side, label_of

_INDEX = "shards.json"
_SHARDS = Product("a folder of shards", lambda folder: (folder / _INDEX).is_file(), error=ConfigError, overwrite="")
_BATCH = 8  # photos that a thread encodes at a time
_BATCH_OF_NODE = 64  # photos that a node encodes at a time
_PREFIX: dict[Side | None, str] = {"train": "train", "val": "validation", "test": "test", None: "photos"}


def shard(
    photos: str | os.PathLike[str] | Dataset,
    out: str | os.PathLike[str],
    config: ShardConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    counts: Mapping[Side | None, int] | None = None,
    levels: Levels = Levels(),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    """Write all readable photos of a data set as shards.

    An upright JPEG in sRGB and a plain PNG keep their bytes. Other photos are rotated, converted to sRGB and encoded as
    JPEG of quality 95, since readers of shards mostly ignore EXIF and colour profiles, and cannot read rarer formats.
    The photos are sorted by their digests, which is as good as shuffled. If the data set defines a split, each side has
    its own shards. Each record has the photo's group, the probability of its label where that is below 1, and the
    digest of the original photo, so that training on the shards uses the same split as training on the photos.

    Args:
        photos: any spec that `Dataset.open` accepts, or a `Dataset`.
        out: the output folder, which must be new, empty, or written by this function before.
        config: the format, size and number of the shards, as a `ShardConfig`, a dict, or the path of a TOML file.
        counts: the number of shards by side, which overrides ``config``; None as a key for photos without a side.
        levels: which folders name classes and groups.

    Returns:
        JSON values: ``out``, ``format``, ``classes`` in the order of the class index, ``shards`` with their numbers of
        photos, ``photos`` (the total number), and ``problems`` (the files that were left out).

    Raises:
        DataError: there are no photos, or the file of labels lacks a class.
        ConfigError: ``out`` holds something else, or the number of shards is not positive.
    """
    options = options_of(ShardConfig, config)
    with claimed(as_path(out, "out"), _SHARDS) as place:
        dataset = Dataset.open(photos, levels.label_from, levels.group_from)
        document = _shard(dataset, place.fresh, options, counts or {})
    return {"out": str(place.path), **document}


def _shard(dataset: Dataset, folder: Path, config: ShardConfig, counts: Mapping[Side | None, int]) -> dict[str, Any]:
    """Write the shards into an empty folder, and return the JSON values that `shard` returns, without ``out``."""
    of_side = {side: replace(config, shards=count, per_shard=None) for side, count in counts.items()}
    names = (["background"] if config.background else []) + class_names(dataset, config.labels)
    index = {name: number for number, name in enumerate(names)}
    problems = list(dataset.problems)
    written: dict[str, int] = {}
    with naming(folder), console.progress("sharding", len(dataset.records)) as advance:
        for side in (*SIDES, None):
            records = sorted((r for r in dataset.records if r.split == side), key=_order)
            encoded = _encoded(records, index, config, problems)
            written |= _write_side(folder, _PREFIX[side], encoded, of_side.get(side, config), advance)
        if not written:
            raise DataError(f"none of the {len(dataset.records)} photos can be read: {problems[0].reason}")
        write_text(folder / "labels.txt", "\n".join(names) + "\n")
        document = {
            "format": config.format,
            "classes": names,
            "photos": sum(written.values()),
            "shards": [{"file": name, "photos": count} for name, count in written.items()],
        }
        write_json(folder / _INDEX, document)
    return {**document, "problems": [{"path": str(p.path), "reason": p.reason} for p in problems]}


def class_names(dataset: Dataset, file: Path | None) -> list[str]:
    """Return the class names in the order of the class index.

    Args:
        dataset: the photos.
        file: a text file with one class name per line; None for the classes of the data set.

    Raises:
        DataError: the file cannot be read, or lacks a class of the data set.
    """
    if file is None:
        return list(dataset.classes)
    with mended(DataError, "wanted the class names, one a line"):
        text = read_text(file, 16 * MEBIBYTE).removeprefix("\ufeff")
    names = [label_of(line) for line in text.splitlines() if line.strip()]
    missing = [label for label in dataset.classes if label not in names]
    if missing:
        raise DataError(f"{file} lacks the classes {', '.join(missing)}; add them, or leave their photos out")
    return names


def _order(record: ImageRecord) -> tuple[str, str, str]:
    return record.digest, record.label, str(record.path)


def _encoded(
    records: list[ImageRecord], index: dict[str, int], config: ShardConfig, problems: list[Problem]
) -> Iterator[Any]:
    """Yield the photos in order, encoded for their shards. Photos that cannot be read are added to ``problems``."""
    how = index, config.format
    if cluster := cluster_in_use():
        batches = (records[i : i + _BATCH_OF_NODE] for i in range(0, len(records), _BATCH_OF_NODE))
        encoded = _on_nodes(cluster, how, batches)
    else:
        batches = (records[i : i + _BATCH] for i in range(0, len(records), _BATCH))
        encoded = _in_order(partial(_encode, how), batches, config.workers or threads())
    for results in encoded:
        for result in results:
            if isinstance(result, Problem):
                problems.append(result)
            else:
                yield result


def _encode(how: tuple[Mapping[str, int], str], records: Sequence[ImageRecord]) -> list[Any]:
    """Return photos as their shards have them, or what is wrong with them.

    Args:
        how: the class index of each label, and the format of the shards.
        records: the photos.
    """
    index, format_ = how

    def encode(record: ImageRecord) -> Any:
        try:
            return _KINDS[format_].encode(record, index[record.label], portable(record.read()))
        except ImageError as error:
            return Problem(record.path, str(error))

    return [encode(record) for record in records]


def _on_nodes(
    cluster: Cluster, how: tuple[Mapping[str, int], str], batches: Iterable[list[ImageRecord]]
) -> Iterator[list[Any]]:
    """Yield what `_encode` returns for each batch in order, computed on the nodes of a cluster."""
    waiting: deque[tuple[Callable[[], list[Any] | None], list[ImageRecord]]] = deque()

    def taken() -> list[Any]:
        wait, batch = waiting.popleft()
        found = wait()
        return _encode(how, batch) if found is None else found  # the node was lost

    for batch in batches:
        waiting.append((cluster.start(_encode, how, photos=batch), batch))
        if len(waiting) > 2 * cluster.machines:
            yield taken()
    while waiting:
        yield taken()


def _in_order(function: Callable[[Any], Any], items: Iterable[Any], workers: int) -> Iterator[Any]:
    """Yield ``function(item)`` for each item in order, computed in threads.

    Only a few results are computed ahead of the caller, since all results would not fit in memory.
    """
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _TFRecordShard:
    """One TFRecord shard of ``tf.train.Example`` messages, with the keys of TensorFlow's Inception pipeline."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._file = path.open("wb")

    @staticmethod
    def encode(record: ImageRecord, label: int, photo: Portable) -> bytes:
        """Return a photo as a TFRecord record. ``label`` is the class index."""
        values: dict[str, bytes | str | int] = {
            "image/encoded": photo.data,
            "image/format": photo.format,
            "image/height": photo.height,
            "image/width": photo.width,
            "image/colorspace": "RGB",
            "image/channels": 3,
            "image/filename": _name(record),
            "image/class/label": label,
            "image/class/text": record.label,
            "image/regraft/digest": record.identity,
            **({"image/regraft/group": _text(record.group)} if record.group else {}),
            **({"image/regraft/probability": str(record.probability)} if record.probability < 1 else {}),
        }
        return frame(example(values))

    def add(self, number: int, encoded: bytes) -> None:
        """Append a record that `encode` returned. ``number`` is the position of the photo within its side."""
        del number  # unlike the members of a WebDataset shard, records have no names
        self._file.write(encoded)
        self.count += 1

    def close(self) -> None:
        """Finish the file, and flush it to the disk."""
        _flush(self._file)


class _WebDatasetShard:
    """One WebDataset shard, a tar: ``00000012.jpg``, the class index in ``.cls``, and other values in ``.json``."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._file = path.open("wb")
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)

    @staticmethod
    def encode(record: ImageRecord, label: int, photo: Portable) -> dict[str, bytes]:
        """Return the members of a photo by their suffixes. ``label`` is the class index."""
        facts: dict[str, Any] = {
            "label": record.label,
            "filename": _name(record),
            "width": photo.width,
            "height": photo.height,
        }
        facts["regraft"] = {
            "digest": record.identity,
            **({"group": _text(record.group)} if record.group else {}),
            **({"probability": record.probability} if record.probability < 1 else {}),
        }
        return {
            "jpg" if photo.format == "JPEG" else "png": photo.data,
            "cls": str(label).encode(),
            "json": json.dumps(facts, ensure_ascii=False).encode(),
        }

    def add(self, number: int, encoded: dict[str, bytes]) -> None:
        """Append the members that `encode` returned. ``number`` is the position of the photo within its side."""
        for kind, data in encoded.items():
            member = tarfile.TarInfo(f"{number:08}.{kind}")  # no owner, no time: equal photos give equal bytes
            member.size = len(data)
            self._tar.addfile(member, io.BytesIO(data))
        self.count += 1

    def close(self) -> None:
        """Finish the file, and flush it to the disk."""
        self._tar.close()
        _flush(self._file)


_KINDS: dict[str, Any] = {"tfrecord": _TFRecordShard, "webdataset": _WebDatasetShard}


def _write_side(
    folder: Path, prefix: str, photos: Iterable[Any], config: ShardConfig, advance: console.Advance
) -> dict[str, int]:
    """Write the shards of one side, and return the number of photos by file name."""
    shards: list[Any] = []
    with ExitStack() as stack:
        for number, photo in enumerate(photos):
            place = number % config.shards if config.shards else number // (config.per_shard or 1024)
            if place == len(shards):
                if not config.shards:
                    stack.pop_all().close()  # the shard before is full
                shards.append(_KINDS[config.format](folder / f"{prefix}-{place}"))
                stack.callback(shards[-1].close)
            shards[place].add(number, photo)
            advance()
    names = {}
    for place, written in enumerate(shards):
        ending = f"{place:05}-of-{len(shards):05}" if config.format == "tfrecord" else f"{place:06}.tar"
        (folder / f"{prefix}-{place}").rename(folder / f"{prefix}-{ending}")
        names[f"{prefix}-{ending}"] = written.count
    return names


def _name(record: ImageRecord) -> str:
    return _text(record.path.name)


def _text(name: str) -> str:
    return name.encode("utf-8", "replace").decode("utf-8")


def _flush(file: io.BufferedWriter) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
