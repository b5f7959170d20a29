"""``regraft-build-image-data``: folders of photos → TFRecord shards, as ``build_image_data.py`` made them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from regraft import _console
from regraft.compat._flags import Flag, parse_flags
from regraft.compat._main import entry
from regraft.config import ShardConfig
from regraft.dataset import Dataset
from regraft.errors import DataError
from regraft.shards import shard
from regraft.sources import Side

FLAGS = (
    Flag(
        "train_directory", "/tmp/", "folder of class folders, or any other source of photos; all become train-* shards"
    ),
    Flag("validation_directory", "/tmp/", "the same, for validation-* shards"),
    Flag("output_directory", "/tmp/", "folder for the shards; what this command wrote there before is replaced"),
    Flag("train_shards", 2, "how many shards"),
    Flag("validation_shards", 2, "how many shards"),
    Flag("num_threads", 2, "threads that read and decode; need not divide the shards"),
    Flag("labels_file", "", "class names in index order, one a line; by default they are sorted"),
)


def build_image_data(tokens: Sequence[str]) -> int:
    """Write the shards of both sides, class numbers from 1. Raises RegraftError."""
    options = parse_flags("regraft-build-image-data", "Write photos as TFRecord shards.", FLAGS, tokens)
    if Path(options.train_directory).resolve() == Path(options.validation_directory).resolve():
        raise DataError(
            f"{options.train_directory} is to be both sides, so every photo would be trained on and measured; "
            "type another --validation_directory"
        )
    dataset = _both_sides(options.train_directory, options.validation_directory)
    labels = Path(options.labels_file) if options.labels_file else None
    config = ShardConfig(workers=options.num_threads, labels=labels, background=True)
    counts: dict[Side | None, int] = {"train": options.train_shards, "val": options.validation_shards}
    written = shard(dataset, Path(options.output_directory), config, counts)
    for problem in written["problems"]:
        sys.stdout.write(f"SKIPPED: {_console.printable(problem['path'])}: {problem['reason']}\n")
    for side in ("train", "validation"):
        files = [one for one in written["shards"] if one["file"].startswith(f"{side}-")]
        photos = sum(one["photos"] for one in files)
        sys.stdout.write(f"{written['out']}: {photos} images in {len(files)} {side} shards\n")
    return 0


def _both_sides(train: str, validation: str) -> Dataset:
    """Photos of both, each on its side; those that are on both are told."""
    sides: tuple[tuple[Side, str], ...] = (("train", train), ("val", validation))
    found = [(side, Dataset.open(spec)) for side, spec in sides]
    records = tuple(replace(record, split=side) for side, dataset in found for record in dataset.records)
    shared = set.intersection(*({record.digest for record in dataset.records} for _, dataset in found))
    if shared:
        _console.warn(f"{len(shared)} photos are in both folders: what is measured on them flatters")
    problems = tuple(problem for _, dataset in found for problem in dataset.problems)
    return Dataset(records, tuple(sorted({record.label for record in records})), problems)


main = entry("regraft-build-image-data", build_image_data, {"another --out": "another --output_directory"})


if __name__ == "__main__":
    sys.exit(main())
