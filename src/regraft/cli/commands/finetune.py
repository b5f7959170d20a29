"""The command `regraft finetune`."""

from __future__ import annotations

from typing import Any

from regraft.classifiers.metrics import TrainingReport
from regraft.cli import tables
from regraft.cli.arguments import given
from regraft.cli.options import FinetuneOptions
from regraft.cli.printing import emit, tell_changed_options
from regraft.config.finetuning import FinetuneConfig
from regraft.config.values import read_toml
from regraft.finetuning import finetuning


def finetune(arguments: Any) -> int:
    """Run `regraft finetune`. Returns the exit code."""
    run = FinetuneOptions(**given(arguments, FinetuneOptions))
    values = read_toml(run.config) if run.config else {}
    config = FinetuneConfig.from_dict({**values, **given(arguments, FinetuneConfig)})
    tell_changed_options(config)
    existing = "resume" if run.resume else "overwrite" if run.overwrite else ""
    classifier = finetuning.finetune(
        arguments.run, run.out, config, run.photos, existing, min_accuracy=run.min_accuracy
    )
    emit({"run": str(classifier.path), **classifier.metrics}, run.json, TrainingReport, tables.training)
    return 0
