"""One trial of a sweep: what was tried, how good it was, and how that is told.

In: the options of a trial and its figures on val. Out: `Trial`, a line of text, a row of a table, a point in a plot.
Why: a sweep is as good as the comparison that people can make of its trials.
Surprise: a trial that failed is a trial too, with its reason in place of figures.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from regraft._files import atomic_file, write_text
from regraft._tensorboard import EventFile

AXES = ("backbone", "resolution", "stages", "head", "thaw", "learning_rate")
"""The options that a sweep tries."""

Options = Mapping[str, str]
"""A value for each of `AXES`, as text; empty for the default."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One classifier that was tried.

    Attributes:
        name: its folder's name.
        options: the values that were tried.
        accuracy: on val; None where it failed.
        log_loss: on val.
        seconds: that it took; a trial that an earlier sweep finished keeps its own.
        error: why it failed, or nothing.
    """

    name: str
    options: Options
    accuracy: float | None
    log_loss: float | None
    seconds: float
    error: str = ""

    @property
    def score(self) -> tuple[float, float]:
        """The larger, the better: accuracy, then log loss."""
        return (-1.0, 0.0) if self.accuracy is None else (self.accuracy, -(self.log_loss or 0.0))


def tell_tensorboard(folder: Path, options: Options, val: Mapping[str, Any]) -> None:
    """Write one point for TensorBoard's HParams tab, which compares the folders of trials."""
    file = EventFile(folder)
    numbers = {k: float(v) for k, v in options.items() if k in ("learning_rate", "resolution") and v}
    file.hyperparameters({**{k: v or "default" for k, v in options.items()}, **numbers})
    file.scalars(0, {"val_accuracy": val["accuracy"], "val_cross_entropy": val["log_loss"]})
    file.close()


def line_of(trial: Trial) -> str:
    """Return what to say of a trial in one line."""
    if trial.error:
        return f"{trial.name}: failed: {trial.error}"
    return f"{trial.name}: val accuracy {trial.accuracy:.1%}, log loss {trial.log_loss:.3f} ({trial.seconds:.1f} s)"


def write_table(path: Path, trials: Sequence[Trial]) -> None:
    """Write trials as CSV, with a column for each option that was tried."""
    names = ("name", *AXES, "accuracy", "log_loss", "seconds", "error")
    rows = [{**asdict(trial), **trial.options} for trial in trials]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_file(path) as temporary:
        write_text(temporary, text.getvalue())
