from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from regraft.classifiers.learning_curves import curves_of_epochs, read_curves
from regraft.errors import RunError
from regraft.foundation.tensorboard import EventFile

EPOCHS: list[dict[str, Any]] = [
    {"number": 0, "train_loss": None, "val_loss": 0.9, "train_accuracy": None, "val_accuracy": 0.5},
    {"number": 1, "train_loss": 0.4, "val_loss": math.nan, "train_accuracy": 0.8, "val_accuracy": 0.7},
]


def test_what_is_not_a_number_is_left_out_and_so_is_an_empty_panel() -> None:
    curves = curves_of_epochs(EPOCHS)
    assert curves.panels == {
        "loss (cross-entropy)": {"train": [(1.0, 0.4)], "val": [(0.0, 0.9)]},
        "top-1 accuracy": {"train": [(1.0, 0.8)], "val": [(0.0, 0.5), (1.0, 0.7)]},
    }
    assert (curves.step, curves.thawed) == ("epoch", True)


def test_a_run_has_the_curves_of_its_logs_or_of_its_history(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has no learning curves"):
        read_curves(tmp_path)
    for name, accuracy in (("train", 0.75), ("validation", 0.5)):
        file = EventFile(tmp_path / "logs" / name)
        file.scalars(1, {"accuracy": accuracy, "cross_entropy": math.nan})
        file.close()
    curves = read_curves(tmp_path)
    assert curves.panels == {"top-1 accuracy": {"train": [(1, 0.75)], "val": [(1, 0.5)]}}
    assert (curves.step, curves.thawed) == ("step", False)
    (tmp_path / "history.json").write_text(json.dumps(EPOCHS[:1]))
    assert read_curves(tmp_path).step == "epoch"


@pytest.mark.parametrize("text", ["{}", "[1]", '[{"number": "x"}]', "[", "[]"])
def test_a_damaged_history_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "history.json").write_text(text)
    with pytest.raises(RunError) as caught:
        read_curves(tmp_path)
    assert "\n" not in str(caught.value)
