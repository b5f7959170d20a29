"""The commands `regraft train` and `regraft demo`."""

from __future__ import annotations

from typing import Any

from regraft.classifiers.metrics import TrainingReport
from regraft.cli import tables
from regraft.cli.arguments import given
from regraft.cli.options import RunOptions
from regraft.cli.printing import emit, tell_changed_options
from regraft.config.training import TrainConfig
from regraft.config.values import read_toml
from regraft.training import training


def train(arguments: Any) -> int:
    """Run `regraft train`. Returns the exit code."""
    run = RunOptions(**given(arguments, RunOptions))
    emit(_trained(arguments, run, arguments.photos), run.json, TrainingReport, tables.training)
    return 0


def demo(arguments: Any) -> int:
    """Run `regraft demo`. Returns the exit code."""
    run = RunOptions(**given(arguments, RunOptions))
    emit(_trained(arguments, run, "demo:elpv"), run.json, TrainingReport, tables.demo)
    return 0


def _trained(arguments: Any, run: RunOptions, photos: str) -> dict[str, Any]:
    """Train a classifier, and return the document of the command."""
    values = read_toml(run.config) if run.config else {}
    config = TrainConfig.from_dict({**values, **given(arguments, TrainConfig)})
    tell_changed_options(config)
    classifier = training.train(photos, run.out, config, run.overwrite, run.min_accuracy)
    return {"run": str(classifier.path), **classifier.metrics}
