"""The options of shards.

In: keyword arguments, a TOML file, or flags. Out: `ShardConfig`, checked.
Why: other training programs expect shards of one size, and classes in their own order.
Surprise: with `background`, the first class has the index 1, as in TensorFlow's Inception pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from regraft.config.values import require_types
from regraft.errors import ConfigError, option


@dataclass(frozen=True, slots=True)
class ShardConfig:
    """The format of shards, and how many photos are in each."""

    heading: ClassVar[str] = "shards"

    format: Literal["tfrecord", "webdataset"] = "tfrecord"
    """Format: tfrecord for TensorFlow, in the schema of its Inception pipeline; webdataset for PyTorch and others."""

    shards: int | None = None
    """Number of shards of each side of the split; not together with --per-shard."""

    per_shard: int | None = None
    """Number of photos in each shard; 1024, unless --shards is given."""

    workers: int | None = None
    """Number of threads that read and decode; by default the number of cores."""

    labels: Path | None = None
    """Text file with the class names in index order, one name in each line; by default the names are sorted."""

    background: bool = False
    """Number the classes from 1, as TensorFlow's Inception pipeline does; index 0 is then called background."""

    def __post_init__(self) -> None:
        """Check the types of the values, and what no type can say."""
        require_types(self)
        if self.format not in ("tfrecord", "webdataset"):
            raise ConfigError(f"unknown format {self.format!r}; there is tfrecord, webdataset")
        if self.shards is not None and self.per_shard is not None:
            raise ConfigError(
                f"{option('shards')} and {option('per_shard')} say the same thing twice; type one of them"
            )
        for name in ("shards", "per_shard", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; wanted at least 1")
