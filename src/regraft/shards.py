"""Photos → shards that TensorFlow, torch and others stream: TFRecord or WebDataset.

In: a folder of labelled photos, or any spec a source takes. Out: a folder of shards, and ``labels.txt``.
Why: a hundred thousand small files are slow to read everywhere but here; a few large ones are not.
Surprise: the same photos give the same bytes, whatever the number of workers.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from regraft import _console
from regraft._documents import MEBIBYTE, mended, read_text
from regraft._files import as_path, naming, threads, write_json, write_text
from regraft._levels import Levels
from regraft._places import Product, claimed
from regraft._tfrecord import example, frame
from regraft._values import options_of
from regraft.config import ShardConfig
from regraft.dataset import Dataset, ImageRecord
from regraft.errors import ConfigError, DataError, ImageError
from regraft.images import Portable, Problem, portable
from regraft.sources import SIDES, Side, label_of

_INDEX = "shards.json"
_SHARDS = Product("a folder of shards", lambda folder: (folder / _INDEX).is_file(), error=ConfigError, overwrite="")
_BATCH = 8  # photos a thread takes at a time
_PREFIX: dict[Side | None, str] = {"train": "train", "val": "validation", "test": "test", None: "photos"}


def shard(
    photos: str | os.PathLike[str] | Dataset,
    out: str | os.PathLike[str],
    config: ShardConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    counts: Mapping[Side | None, int] | None = None,
    levels: Levels = Levels(),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    """Write shards of the photos that can be read.

    A JPEG that is upright and in sRGB, and a plain PNG, keep their bytes; other photos are turned, converted and
    encoded as JPEG of quality 95, since readers of shards know neither EXIF nor profiles nor the rarer formats.
    Photos are in the order of their digests, which is as good as shuffled. Where they have sides of their own, each
    side has its shards. Each record names its group and the digest of the photo that it was made from, so that a
    training on the shards splits them as one on the photos does.

    Args:
        photos: any spec that `Dataset.open` takes, or what it gives.
        out: the folder; new, empty, or one that this function wrote before.
        config: format, size and number of shards, as a `ShardConfig`, a dict, or the path of a TOML file.
        counts: how many shards some sides have, whatever ``config`` says.
        levels: which folders name classes and groups.

    Returns:
        JSON values: ``out``, ``format``, ``classes`` in index order, ``shards`` with their photos counted, ``photos``
        in all, and ``problems``, the files left out.

    Raises:
        DataError: there are no photos, or a class that the given labels do not have.
        ConfigError: ``out`` holds something else, or a side is to have no shard.
    """
    options = options_of(ShardConfig, config)
    with claimed(as_path(out, "out"), _SHARDS) as place:
        dataset = Dataset.open(photos, levels.label_from, levels.group_from)
        document = _shard(dataset, place.fresh, options, counts or {})
    return {"out": str(place.path), **document}


def _shard(dataset: Dataset, folder: Path, config: ShardConfig, counts: Mapping[Side | None, int]) -> dict[str, Any]:
    """`shard` into an empty folder."""
    of_side = {side: replace(config, shards=count, per_shard=None) for side, count in counts.items()}
    names = (["background"] if config.background else []) + class_names(dataset, config.labels)
    index = {name: number for number, name in enumerate(names)}
    problems = list(dataset.problems)
    written: dict[str, int] = {}
    with naming(folder), _console.progress("sharding", len(dataset.records)) as advance:
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
    """The classes in index order: the data set's, or the lines of ``file``. Raises DataError for one it lacks."""
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
    """The photos that decode, in order, as their shards want them; the others go to ``problems``."""
    kind = _KINDS[config.format]

    def encode(record: ImageRecord) -> Any:
        try:
            return kind.encode(record, index[record.label], portable(record.read()))
        except ImageError as error:
            return Problem(record.path, str(error))

    def encode_all(batch: list[ImageRecord]) -> list[Any]:
        return [encode(record) for record in batch]

    batches = (records[i : i + _BATCH] for i in range(0, len(records), _BATCH))
    for results in _in_order(encode_all, batches, config.workers or threads()):
        for result in results:
            if isinstance(result, Problem):
                problems.append(result)
            else:
                yield result


def _in_order(function: Callable[[Any], Any], items: Iterable[Any], workers: int) -> Iterator[Any]:
    """Like ``map`` over threads, but only a few results ahead of who takes them: all would not fit in memory."""
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _TFRecordShard:
    """One file of ``tf.train.Example`` messages in the schema of TensorFlow's Inception pipeline."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._file = path.open("wb")

    @staticmethod
    def encode(record: ImageRecord, label: int, photo: Portable) -> bytes:
        """One record."""
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
        }
        return frame(example(values))

    def add(self, number: int, encoded: bytes) -> None:
        """Append what `encode` made of photo ``number`` of its side."""
        del number  # records have no names
        self._file.write(encoded)
        self.count += 1

    def close(self) -> None:
        """Finish the file, on disk."""
        _flush(self._file)


class _WebDatasetShard:
    """One tar: ``00000012.jpg``, its class number in ``.cls``, and the rest in ``.json``."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._file = path.open("wb")
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)

    @staticmethod
    def encode(record: ImageRecord, label: int, photo: Portable) -> dict[str, bytes]:
        """The members by their endings."""
        facts: dict[str, Any] = {
            "label": record.label,
            "filename": _name(record),
            "width": photo.width,
            "height": photo.height,
        }
        facts["regraft"] = {"digest": record.identity, **({"group": _text(record.group)} if record.group else {})}
        return {
            "jpg" if photo.format == "JPEG" else "png": photo.data,
            "cls": str(label).encode(),
            "json": json.dumps(facts, ensure_ascii=False).encode(),
        }

    def add(self, number: int, encoded: dict[str, bytes]) -> None:
        """Append what `encode` made of photo ``number`` of its side."""
        for kind, data in encoded.items():
            member = tarfile.TarInfo(f"{number:08}.{kind}")  # no owner and no time: the same bytes every time
            member.size = len(data)
            self._tar.addfile(member, io.BytesIO(data))
        self.count += 1

    def close(self) -> None:
        """Finish the file, on disk."""
        self._tar.close()
        _flush(self._file)


_KINDS: dict[str, Any] = {"tfrecord": _TFRecordShard, "webdataset": _WebDatasetShard}


def _write_side(
    folder: Path, prefix: str, photos: Iterable[Any], config: ShardConfig, advance: _console.Advance
) -> dict[str, int]:
    """Write one side's shards under their final names. Returns how many photos each holds."""
    shards: list[Any] = []
    with ExitStack() as stack:
        for number, photo in enumerate(photos):
            place = number % config.shards if config.shards else number // (config.per_shard or 1024)
            if place == len(shards):
                if not config.shards:
                    stack.pop_all().close()  # the one before is full
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
