"""The command `regraft sweep`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from regraft.cli import tables
from regraft.cli.arguments import given
from regraft.cli.options import SweepOptions
from regraft.cli.printing import emit
from regraft.config.finetuning import FinetuneConfig
from regraft.config.levels import Levels
from regraft.config.sweeping import SweepConfig
from regraft.config.training import TrainConfig
from regraft.config.values import read_toml
from regraft.errors import ConfigError
from regraft.reporting.documents import SweepReport
from regraft.sweeping import sweeping


def sweep(arguments: Any) -> int:
    """Run `regraft sweep`. Returns the exit code."""
    options = SweepOptions(**given(arguments, SweepOptions))
    shared = read_toml(options.config) if options.config else {}
    if unknown := set(shared) - {"train", "finetune"}:
        raise ConfigError(f"unknown table {min(unknown)!r} in {options.config}; there is train, finetune")
    train, tune = (TrainConfig.from_dict(shared.get("train", {})), FinetuneConfig.from_dict(shared.get("finetune", {})))
    train = replace(train, **given(arguments, Levels))
    config = SweepConfig(**given(arguments, SweepConfig))
    found = sweeping.sweep(arguments.photos, options.out, config, train, tune)
    emit(found.to_dict(), options.json, SweepReport, tables.sweep)
    return 0
