from __future__ import annotations

from pathlib import Path

from regraft import TrainConfig, train
from tests.conftest import draw_folder


def test_the_card_tells_what_was_measured(photos: Path, tmp_path: Path, cache: Path) -> None:
    metrics = train(photos, tmp_path / "run", TrainConfig(effort="quick", folds=0)).metrics
    text = (tmp_path / "run" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "Square, circle, 줄무늬" in text
    assert f"{metrics['test']['accuracy']:.1%} (95 % interval" in text
    assert "Apache-2.0" in text


def test_a_run_that_was_not_measured_says_so(tmp_path: Path, cache: Path) -> None:
    train(draw_folder(tmp_path / "p", {"circle": 1, "Square": 1}), tmp_path / "run", TrainConfig(effort="quick"))
    assert "no photo was kept for measuring" in (tmp_path / "run" / "MODEL_CARD.md").read_text(encoding="utf-8")
