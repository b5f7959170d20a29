"""Curves as pictures, by matplotlib.

In: a training's history. Out: a PNG.
Why: not everyone opens TensorBoard, and a picture goes into a message.
Surprise: matplotlib's own window system is never touched, so that this works on a server.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from regraft._files import atomic_file
from regraft.optimisation import Epoch


def plot_history(history: Sequence[Epoch], path: Path) -> bool:
    """Draw loss, top-1 and top-5 over the epochs, train beside val, from the moment of thawing on.

    Returns:
        Whether matplotlib is installed, and so the picture there.
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
