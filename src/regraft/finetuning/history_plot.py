"""Draw the learning curves of a fine-tuning with matplotlib.

In: the history of a fine-tuning, one `Epoch` after the other. Out: a PNG file.
Why: not everyone opens TensorBoard, and a PNG file can be sent in a message.
Surprise: matplotlib's ``pyplot`` is not imported, so that no window system is needed and it works on a server.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from regraft.classifiers.learning_curves import curves_of_epochs
from regraft.drawing.figures import curves_figure, has_matplotlib
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
    if not has_matplotlib():
        return False
    curves = curves_of_epochs(epoch.to_dict() for epoch in history)
    figure = curves_figure(curves.panels, curves.step, curves.thawed)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    return True
