from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from regraft.classifiers import prediction
from regraft.classifiers.prediction import Prediction, predict_each, rejections
from regraft.classifiers.predictor import Answers
from regraft.errors import ConfigError, DataError
from regraft.photos.images import Problem
from tests.conftest import draw_folder


class ByName:
    """A double that says what the file's name says."""

    classes = ("a", "b", "c")
    temperature = 1.0
    threshold: float | None = 1.0

    def __init__(self) -> None:
        self.asked: list[int] = []

    def answers(self, images: Any, on_problem: Callable[[Problem], None] | None = None) -> Answers:
        novelty = np.array([2.0 if "strange" in str(photo.path) else 0.0 for photo in images], np.float32)
        return Answers(self.predict_proba(images, on_problem), novelty)

    def predict_proba(self, images: Any, on_problem: Callable[[Problem], None] | None = None) -> NDArray[np.float32]:
        self.asked.append(len(images))
        result = np.tile(np.array([[0.2, 0.3, 0.5]], np.float32), (len(images), 1))
        for i, photo in enumerate(images):
            if photo.path.suffix == ".bad":
                assert on_problem is not None
                on_problem(Problem(photo.path, "damaged"))
                result[i] = np.nan
        return result


def ask(paths: list[Path], top: int = 1) -> tuple[list[Prediction], ByName]:
    double = ByName()
    return list(predict_each(double, paths, top)), double


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


def test_the_first_photos_are_answered_soon_and_the_others_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "CHUNK", 20)
    found, double = ask([Path(f"{i}.jpg") for i in range(55)])
    assert [p.path.name for p in found] == [f"{i}.jpg" for i in range(55)]
    assert double.asked == [8, 20, 27]  # seven alone would have another engine compiled


def test_no_more_photos_are_listed_than_are_needed() -> None:
    listed = []

    def photos() -> Iterator[Path]:
        for i in range(10**9):
            listed.append(i)
            yield Path(f"{i}.jpg")

    answers = predict_each(ByName(), photos())
    assert next(answers).path.name == "0.jpg"
    assert len(listed) < 100


def test_top_must_be_one_at_least() -> None:
    with pytest.raises(ConfigError, match="wanted at least 1"):
        ask([Path("1.jpg")], top=0)


def test_a_photo_of_nothing_known_is_told_to_be_that() -> None:
    (found,), _ = ask([Path("strange.jpg")])
    assert found.novel
    assert found.to_dict()["none_of_these"] is True
    assert found.top == (("c", 0.5),)


def test_photos_of_none_of_the_classes_are_counted_by_folder(tmp_path: Path) -> None:
    draw_folder(tmp_path / "p", {"strange": 3, "x": 1})
    found = rejections(ByName(), tmp_path / "p")
    assert [(group.label, group.n, group.rejected) for group in found] == [
        ("all photos", 4, 0.75),
        ("strange", 3, 1.0),
        ("x", 1, 0.0),
    ]
    assert found[0].interval[0] < 0.75 < found[0].interval[1]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no photo in .* can be read"):
        rejections(ByName(), tmp_path / "empty")


def test_one_that_never_rejects_says_why(tmp_path: Path) -> None:
    double = ByName()
    double.threshold = None
    with pytest.raises(ConfigError, match="never answers with none of these"):
        rejections(double, tmp_path)
