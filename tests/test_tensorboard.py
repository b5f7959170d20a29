from __future__ import annotations

import math
from pathlib import Path

import pytest

from regraft._tensorboard import EventFile

accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def test_tensorboards_own_reader_gets_the_curves(tmp_path: Path) -> None:
    file = EventFile(tmp_path / "train")
    file.hyperparameters({"salt": "가", "val": 0.1, "odd": None})
    for step in (1, 2):
        file.scalars(step, {"accuracy": step / 10, "cross_entropy": math.nan})
    file.close()
    events = accumulators.EventAccumulator(str(tmp_path / "train")).Reload()
    assert [(e.step, round(e.value, 6)) for e in events.Scalars("accuracy")] == [(1, 0.1), (2, 0.2)]
    assert events.Tags()["scalars"] == ["accuracy"]
    assert "_hparams_/session_start_info" in events.summary_metadata
