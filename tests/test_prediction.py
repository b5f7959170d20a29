from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from regraft import prediction
from regraft.classifier import Classifier
from regraft.errors import ConfigError
from regraft.images import Problem
from regraft.prediction import predict
from tests.conftest import draw_folder


class ByName:
    """A double that says what the file's name says."""

    classes = ("a", "b", "c")

    def __init__(self) -> None:
        self.asked: list[int] = []

    def predict_proba(self, images: Sequence[Path], on_problem: Callable[[Problem], None]) -> NDArray[np.float32]:
        self.asked.append(len(images))
        result = np.tile(np.array([[0.2, 0.3, 0.5]], np.float32), (len(images), 1))
        for i, path in enumerate(images):
            if path.suffix == ".bad":
                on_problem(Problem(path, "damaged"))
                result[i] = np.nan
        return result


def ask(paths: list[Path], top: int = 1) -> tuple[list[prediction.Prediction], ByName]:
    double = ByName()
    return predict(cast(Classifier, double), paths, top), double


def test_answers_come_in_order_and_errors_in_their_place() -> None:
    found, _ = ask([Path("1.jpg"), Path("2.bad"), Path("3.jpg")], top=2)
    assert [p.path.name for p in found] == ["1.jpg", "2.bad", "3.jpg"]
    assert found[0].top == (("c", 0.5), ("b", pytest.approx(0.3)))
    assert found[1].to_dict() == {"path": "2.bad", "error": "damaged"}
    first: dict[str, Any] = found[2].to_dict()
    assert first["top"][0] == {"label": "c", "probability": 0.5}


def test_folders_are_searched_for_photos_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    draw_folder(tmp_path / "p", {"x": 2, ".hidden": 1})
    (tmp_path / "p" / "x" / "notes.txt").write_text("text")
    found, _ = ask([tmp_path / "p"])
    assert [p.path.name for p in found] == ["000.jpg", "001.jpg"]
    (tmp_path / "empty").mkdir()
    assert ask([tmp_path / "empty"])[0] == []
    assert "no photo was found" in caplog.text


def test_many_photos_are_asked_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "CHUNK", 4)
    found, double = ask([Path(f"{i}.jpg") for i in range(10)])
    assert len(found) == 10
    assert double.asked == [4, 4, 2]


def test_top_must_be_one_at_least() -> None:
    with pytest.raises(ConfigError, match="wanted at least 1"):
        ask([Path("1.jpg")], top=0)
