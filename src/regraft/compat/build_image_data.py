"""``regraft-build-image-data``: write folders of photos as TFRecord shards, as ``build_image_data.py`` did."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from regraft.compat._flags import Flag, parse_flags
from regraft.compat._main import entry
from regraft.config.sharding import ShardConfig
from regraft.errors import DataError
from regraft.foundation import console
from regraft.photos.dataset import Dataset
from regraft.photos.sources.base import Side
from regraft.sharding import shard

FLAGS = (
    Flag(
        "train_directory", "/tmp/", "folder of class folders, or any other source of photos; all go to train-* shards"
    ),
    Flag("validation_directory", "/tmp/", "the same, for the validation-* shards"),
    Flag("output_directory", "/tmp/", "folder for the shards; what this command wrote there before is replaced"),
    Flag("train_shards", 2, "number of train shards"),
    Flag("validation_shards", 2, "number of validation shards"),
    Flag("num_threads", 2, "number of workers that read and decode; it need not divide the number of shards"),
    Flag("labels_file", "", "file of class names in the order of their index, one a line; by default they are sorted"),
)


def build_image_data(tokens: Sequence[str]) -> int:
    """Write the train and validation shards, with class indices from 1. Raises RegraftError."""
    options = parse_flags("regraft-build-image-data", "Write photos as TFRecord shards.", FLAGS, tokens)
    if Path(options.train_directory).resolve() == Path(options.validation_directory).resolve():
        raise DataError(
            f"{options.train_directory} is to be both train and validation, so every photo would be trained on and "
            "measured; type another --validation_directory"
        )
    dataset = _both_sides(options.train_directory, options.validation_directory)
    labels = Path(options.labels_file) if options.labels_file else None
    config = ShardConfig(workers=options.num_threads, labels=labels, background=True)
    counts: dict[Side | None, int] = {"train": options.train_shards, "val": options.validation_shards}
    written = shard(dataset, Path(options.output_directory), config, counts)
    for problem in written["problems"]:
        sys.stdout.write(f"SKIPPED: {console.printable(problem['path'])}: {problem['reason']}\n")
    for side in ("train", "validation"):
        files = [one for one in written["shards"] if one["file"].startswith(f"{side}-")]
        photos = sum(one["photos"] for one in files)
        sys.stdout.write(f"{written['out']}: {photos} images in {len(files)} {side} shards\n")
    return 0


def _both_sides(train: str, validation: str) -> Dataset:
    """Return the photos of both folders with their side of the split; warn of photos that are in both."""
    sides: tuple[tuple[Side, str], ...] = (("train", train), ("val", validation))
    found = [(side, Dataset.open(spec)) for side, spec in sides]
    records = tuple(replace(record, split=side) for side, dataset in found for record in dataset.records)
    shared = set.intersection(*({record.digest for record in dataset.records} for _, dataset in found))
    if shared:
        console.warn(f"{len(shared)} photos are in both folders: accuracies measured on them are too high")
    problems = tuple(problem for _, dataset in found for problem in dataset.problems)
    return Dataset(records, tuple(sorted({record.label for record in records})), problems)


main: Callable[..., int] = entry("regraft-build-image-data", build_image_data, {"out": "--output_directory"})


if __name__ == "__main__":
    sys.exit(main())
