"""The source ``tfds:NAME[/config][:split]``: a data set of the package TensorFlow Datasets."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from regraft.errors import DataError
from regraft.foundation import console
from regraft.photos.images import Problem
from regraft.photos.sources.base import Entry, Listing, Side, side_of
from regraft.photos.sources.shards import listing_of
from regraft.photos.sources.tfrecord import read_shard


class TensorFlowDatasets:
    """A data set that the package ``tensorflow-datasets`` prepares on first use. It is read without TensorFlow."""

    def accepts(self, spec: str) -> bool:
        """Return whether ``spec`` begins with ``tfds:``."""
        return spec.startswith("tfds:")

    def list(self, spec: str) -> Listing:
        """Prepare the data set and list it. Its train, validation and test are the split, unless ``spec`` names one.

        Raises:
            DataError: the package is missing or cannot prepare the data set, or the data set has no column of photos
                or no label column.
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
    """Return the builder of a data set, which has been downloaded and prepared. Raises DataError if that fails."""
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise DataError("tfds: data sets need a package; type: pip install 'regraft[tfds]'") from error
    try:
        builder = tensorflow_datasets.builder(name)
        builder.download_and_prepare()
    except Exception as error:  # the builders raise errors of many types
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise DataError(f"TensorFlow Datasets cannot prepare {name!r}: {first}") from error
    return builder


def _columns(features: Any, spec: str) -> tuple[str, str]:
    """Return the names of the image column and the label column. Raises DataError if one is missing."""
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    image = next((name for name, kind in kinds.items() if kind == "Image"), None)
    label = next((name for name, kind in kinds.items() if kind == "ClassLabel"), None)
    if image is None or label is None:
        raise DataError(f"{spec} has {kinds}; wanted an Image and a ClassLabel")
    return image, label


def _splits(builder: Any, asked: str) -> dict[str, Side | None]:
    """Return the splits to read, each with its side. Raises DataError if the data set has no split ``asked``."""
    there = list(builder.info.splits)
    if asked:
        if asked.partition("[")[0] not in there:
            raise DataError(f"there is no split {asked!r}; there is {', '.join(there)}")
        return {asked: None}
    sides = {split: side for split in there if (side := side_of(split))}
    if "train" not in sides.values() or len(sides) < 2:
        return dict.fromkeys(there)
    if passed_over := [split for split in there if split not in sides]:
        console.note(f"splits that are neither train, validation nor test are left out: {', '.join(passed_over)}")
    return dict(sides)
