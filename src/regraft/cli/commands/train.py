"""The commands `regraft train` and `regraft demo`."""

from __future__ import annotations

from typing import Any

from regraft.classifiers.classifier import Classifier
from regraft.classifiers.metrics import TrainingReport
from regraft.cli import tables
from regraft.cli.arguments import given
from regraft.cli.options import RunOptions, TrainOptions
from regraft.cli.printing import emit, tell_changed_options
from regraft.config.training import TrainConfig
from regraft.config.values import read_toml
from regraft.foundation import console
from regraft.reporting.projector import write_projector
from regraft.training import training


def train(arguments: Any) -> int:
    """Run `regraft train`. Returns the exit code."""
    run = TrainOptions(**given(arguments, TrainOptions))
    classifier = _updated(arguments, run) if run.from_run else _trained(arguments, run, arguments.photos)
    if run.projector:
        write_projector(classifier)
        console.say(f"type tensorboard --logdir {classifier.path}")
    emit(_document(classifier), run.json, TrainingReport, tables.training)
    return 0


def demo(arguments: Any) -> int:
    """Run `regraft demo`. Returns the exit code."""
    run = RunOptions(**given(arguments, RunOptions))
    emit(_document(_trained(arguments, run, "demo:elpv")), run.json, TrainingReport, tables.demo)
    return 0


def _trained(arguments: Any, run: RunOptions, photos: str) -> Classifier:
    """Train a classifier with the options of the command line."""
    values = read_toml(run.config) if run.config else {}
    config = TrainConfig.from_dict({**values, **given(arguments, TrainConfig)})
    tell_changed_options(config)
    if_better = isinstance(run, TrainOptions) and run.if_better  # which is refused without --from
    return training.train(photos, run.out, config, run.overwrite, run.min_accuracy, if_better=if_better)


def _updated(arguments: Any, run: TrainOptions) -> Classifier:
    """Train a classifier from another run, with those options of the command line that are given."""
    config = {**(read_toml(run.config) if run.config else {}), **given(arguments, TrainConfig)}
    return training.train(
        arguments.photos, run.out, config, run.overwrite, run.min_accuracy, run.from_run, run.if_better
    )


def _document(classifier: Classifier) -> dict[str, Any]:
    """Return the document of the command."""
    return {"run": str(classifier.path), **classifier.metrics}
