"""The command `regraft shard`."""

from __future__ import annotations

from typing import Any

from regraft import sharding
from regraft.cli import tables
from regraft.cli.arguments import given
from regraft.cli.options import ShardOptions
from regraft.cli.printing import emit
from regraft.config.levels import Levels
from regraft.config.sharding import ShardConfig
from regraft.reporting.documents import ShardReport


def shard(arguments: Any) -> int:
    """Run `regraft shard`. Returns the exit code."""
    options = ShardOptions(**given(arguments, ShardOptions))
    config, levels = ShardConfig(**given(arguments, ShardConfig)), Levels(**given(arguments, Levels))
    document = sharding.shard(arguments.photos, options.out, config, levels=levels)
    emit(document, options.json, ShardReport, tables.shards)
    return 0
