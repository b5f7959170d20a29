"""``tfds:NAME[/config][:split]``: a data set of TensorFlow Datasets, read where its package prepared it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from regraft import _console
from regraft.errors import DataError
from regraft.images import Problem
from regraft.sources import Entry, Listing, Side, side_of
from regraft.sources._shards import listing_of
from regraft.sources.tfrecord import read_shard


class TensorFlowDatasets:
    """Prepared by the package ``tensorflow-datasets`` on first use, and then read without TensorFlow."""

    def accepts(self, spec: str) -> bool:
        """``tfds:`` followed by a name."""
        return spec.startswith("tfds:")

    def list(self, spec: str) -> Listing:
        """Prepare and list. Its own train, validation and test are kept as the split, unless one is asked for.

        Raises:
            DataError: the package is missing, cannot prepare the set, or the set has no photos with one label.
        """
        name, _, asked = spec.removeprefix("tfds:").partition(":")
        builder = _prepared(name)
        image, label = _columns(builder.info.features, spec)
        names = list(builder.info.features[label].names or ())
        found: list[Entry | Problem] = []
        for split, side in _splits(builder, asked).items():
            for part in builder.info.splits[split].file_instructions:
                stop = None if part.take < 0 else part.skip + part.take
                records = read_shard(Path(part.filename), side, names, (image,), (label,))
                found += islice(records, part.skip, stop)
        return listing_of(found, f"{spec} holds no photo that can be found ({builder.info.file_format})")


def _prepared(name: str) -> Any:
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise DataError("tfds: data sets need a package; type: pip install 'regraft[tfds]'") from error
    try:
        builder = tensorflow_datasets.builder(name)
        builder.download_and_prepare()
    except Exception as error:  # its builders raise whatever went wrong inside them
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise DataError(f"TensorFlow Datasets cannot prepare {name!r}: {first}") from error
    return builder


def _columns(features: Any, spec: str) -> tuple[str, str]:
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    image = next((name for name, kind in kinds.items() if kind == "Image"), None)
    label = next((name for name, kind in kinds.items() if kind == "ClassLabel"), None)
    if image is None or label is None:
        raise DataError(f"{spec} has {kinds}; wanted an Image and a ClassLabel")
    return image, label


def _splits(builder: Any, asked: str) -> dict[str, Side | None]:
    """The splits to read, each with its side."""
    there = list(builder.info.splits)
    if asked:
        if asked.partition("[")[0] not in there:
            raise DataError(f"there is no split {asked!r}; there is {', '.join(there)}")
        return {asked: None}
    sides = {split: side for split in there if (side := side_of(split))}
    if "train" not in sides.values() or len(sides) < 2:
        return dict.fromkeys(there)
    if passed_over := [split for split in there if split not in sides]:
        _console.note(f"splits that are neither train, validation nor test are left out: {', '.join(passed_over)}")
    return dict(sides)
