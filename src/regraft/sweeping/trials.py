"""One trial of a sweep: its options, its figures on val, and how they are printed, tabulated and plotted.

In: the options of a trial and its figures on val. Out: a `Trial`, a line of text, a row of a table, TensorBoard events.
Why: a sweep is useful only if its trials are easy to compare.
Surprise: a trial that failed is listed too, with the reason in place of figures.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from regraft.foundation.files import atomic_file, write_text
from regraft.foundation.tensorboard import EventFile

AXES = ("backbone", "resolution", "stages", "head", "thaw", "learning_rate")
"""The options that a sweep varies."""

Options = Mapping[str, str]
"""A value for each option in `AXES`, as text; empty for the default."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One classifier that a sweep trained, or failed to train.

    Attributes:
        name: the name of the trial's folder.
        options: the values that were tried.
        accuracy: the accuracy on val, 0 to 1; None where the trial failed.
        log_loss: the cross-entropy on val; None where the trial failed.
        seconds: the time of the trial; for a trial that an earlier sweep finished, the time it took then.
        error: why the trial failed; empty where it did not.
    """

    name: str
    options: Options
    accuracy: float | None
    log_loss: float | None
    seconds: float
    error: str = ""

    @property
    def score(self) -> tuple[float, float]:
        """The figures by which trials are ordered, larger is better: accuracy, then negative cross-entropy."""
        return (-1.0, 0.0) if self.accuracy is None else (self.accuracy, -(self.log_loss or 0.0))


def tell_tensorboard(folder: Path, options: Options, val: Mapping[str, Any]) -> None:
    """Write a trial's options and figures on val for TensorBoard's HParams tab, which compares the trials' folders."""
    file = EventFile(folder)
    sizes = {"resolution"} if options.get("resolution", "").isdigit() else set()
    numbers = {k: float(v) for k, v in options.items() if k in {"learning_rate", *sizes} and v}
    file.hyperparameters({**{k: v or "default" for k, v in options.items()}, **numbers})
    file.scalars(0, {"val_accuracy": val["accuracy"], "val_cross_entropy": val["log_loss"]})
    file.close()


def line_of(trial: Trial) -> str:
    """Return a trial's name and figures, or the reason why it failed, as one line of text."""
    if trial.error:
        return f"{trial.name}: failed: {trial.error}"
    return f"{trial.name}: val accuracy {trial.accuracy:.1%}, log loss {trial.log_loss:.3f} ({trial.seconds:.1f} s)"


def write_table(path: Path, trials: Sequence[Trial]) -> None:
    """Write trials as a CSV file at ``path``, with a column for each option in `AXES`."""
    names = ("name", *AXES, "accuracy", "log_loss", "seconds", "error")
    rows = [{**asdict(trial), **trial.options} for trial in trials]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_file(path) as temporary:
        write_text(temporary, text.getvalue())
