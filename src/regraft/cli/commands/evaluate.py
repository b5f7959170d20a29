"""The command `regraft evaluate`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from regraft import predicting
from regraft.classifiers.prediction import rejections
from regraft.cli import tables
from regraft.cli.arguments import given
from regraft.cli.options import EvaluateOptions
from regraft.cli.printing import emit
from regraft.config.levels import Levels
from regraft.errors import ConfigError
from regraft.finetuning.watching import follow
from regraft.reporting.documents import EvaluationReport


def evaluate(arguments: Any) -> int:
    """Run `regraft evaluate`. Returns the exit code."""
    output = EvaluateOptions(**given(arguments, EvaluateOptions))
    if output.once or output.watch is not None:
        if output.unknown is not None:
            raise ConfigError("--unknown needs a whole run, and goes with neither --once nor --watch")
        return _follow(arguments, output)
    predictor = predicting.predictor_of(arguments.run)
    evaluation, problems = predicting.evaluate(predictor, arguments.photos, **given(arguments, Levels))
    document = {**evaluation.to_dict(), "problems": [{"path": str(p.path), "reason": p.reason} for p in problems]}
    if output.unknown is not None:
        document["unknown"] = [asdict(group) for group in rejections(predictor, output.unknown)]
    emit(document, output.json, EvaluationReport, tables.whole_evaluation)
    return 0


def _follow(arguments: Any, output: EvaluateOptions) -> int:
    """Measure checkpoints of a fine-tuning, and print a document for each. Returns the exit code."""
    seconds = None if output.once else output.watch
    for epoch, evaluation in follow(arguments.run, arguments.photos, seconds, given(arguments, Levels)):
        document = {"epoch": epoch, **evaluation.to_dict()}
        emit(document, output.json, EvaluationReport, tables.whole_evaluation, indent=None)
    return 0
