"""Draw the learning curves of a fine-tuning with matplotlib.

In: the history of a fine-tuning, one `Epoch` after the other. Out: a PNG file.
Why: not everyone opens TensorBoard, and a PNG file can be sent in a message.
Surprise: matplotlib's ``pyplot`` is not imported, so that no window system is needed and it works on a server.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from regraft.finetuning.training_loop import Epoch
from regraft.foundation.files import atomic_file


def plot_history(history: Sequence[Epoch], path: Path) -> bool:
    """Draw loss, top-1 accuracy and top-5 accuracy over the epochs, on train and on val.

    Args:
        history: the epochs; number 0 is the state before training, where the blocks are thawed.
        path: the PNG file to write.

    Returns:
        Whether the file was written: False where matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        return False
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, (title, name) in zip(
        figure.subplots(1, 3), (("loss", "loss"), ("top-1", "accuracy"), ("top-5", "top5")), strict=True
    ):
        for side, colour in (("train", "tab:blue"), ("val", "tab:orange")):
            found = [(e.number, getattr(e, f"{side}_{name}")) for e in history]
            points = [(x, y) for x, y in found if not math.isnan(y)]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, color=colour, label=side)
        axes.axvline(0, color="grey", linestyle=":", label="thawed")
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name != "loss":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.legend()
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    return True
