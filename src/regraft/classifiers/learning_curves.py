"""The learning curves of a run: from the history of a fine-tuning, or from the TensorBoard logs of a training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regraft.classifiers.run_folder import LAYOUT
from regraft.drawing.figures import Curve
from regraft.errors import RunError
from regraft.foundation.documents import MEBIBYTE, DamagedError, Fields, mended, read_json
from regraft.foundation.tensorboard import read_scalars

_MOST_HISTORY = 16 * MEBIBYTE
_LOSS = "loss (cross-entropy)"
_PANELS = {_LOSS: "loss", "top-1 accuracy": "accuracy", "top-5 accuracy": "top5"}
"""The titles of the panels, each with the end of its figures' names in the history of a fine-tuning."""


@dataclass(frozen=True, slots=True)
class Curves:
    """Learning curves.

    Attributes:
        panels: the curves by the title of their panel and by their name, ``train`` or ``val``.
        step: the name of a step: ``epoch`` or ``step``.
        thawed: whether step 0 is where a backbone was thawed.
    """

    panels: Mapping[str, Mapping[str, Curve]]
    step: str
    thawed: bool = False


def curves_of_epochs(epochs: Iterable[Mapping[str, Any]]) -> Curves:
    """Return the curves of a fine-tuning.

    Args:
        epochs: the figures of each epoch by name, as in ``history.json``; None and NaN are left out.
    """
    rows = list(epochs)

    def curve(name: str) -> Curve:
        points = [(float(row["number"]), row.get(name)) for row in rows]
        return [(x, float(y)) for x, y in points if isinstance(y, int | float) and math.isfinite(y)]

    panels = {title: {side: curve(f"{side}_{name}") for side in ("train", "val")} for title, name in _PANELS.items()}
    return Curves({title: curves for title, curves in panels.items() if any(curves.values())}, "epoch", thawed=True)


def read_curves(folder: Path) -> Curves:
    """Return the learning curves of the run in a folder.

    Raises:
        RunError: the run has no learning curves, or its history is damaged.
    """
    history = folder / LAYOUT.history
    if history.is_file():
        with mended(RunError, "fine-tune the run again, or take a whole copy of it"):
            epochs = read_json(history, _MOST_HISTORY)
            if not isinstance(epochs, list):
                raise DamagedError(f"{history} is damaged: it is no list of epochs")
            for epoch in epochs:
                Fields(epoch, history).whole("number")
        found = curves_of_epochs(epochs)
    else:
        logs = {name: read_scalars(folder / LAYOUT.logs / side) for name, side in _SIDES.items()}
        panels = {
            title: {name: read.get(tag, []) for name, read in logs.items()}
            for title, tag in ((_LOSS, "cross_entropy"), ("top-1 accuracy", "accuracy"))
        }
        found = Curves({title: curves for title, curves in panels.items() if any(curves.values())}, "step")
    if not found.panels:
        raise RunError(f"{folder} has no learning curves: neither {LAYOUT.history} nor logs with curves are in it")
    return found


_SIDES = {"train": "train", "val": "validation"}
"""The names of the curves, each with the name of its folder in the logs."""
