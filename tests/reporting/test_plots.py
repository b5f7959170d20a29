"""Pictures, by the real matplotlib. Needs the extra plot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regraft.classifiers.prediction import Prediction
from regraft.drawing import figures
from regraft.errors import ConfigError
from regraft.reporting import plots
from regraft.reporting.plots import plot_predictions
from tests.conftest import Command


def answers(photos: Path, count: int, novel: bool = False) -> list[Prediction]:
    top = (("circle", 0.7), ("줄무늬", 0.2), ("Square", 0.1))
    return [Prediction(path, top, novel) for path in sorted((photos / "circle").iterdir())[:count]]


def colours(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    found, counts = np.unique(pixels, axis=0, return_counts=True)
    return {tuple(map(int, colour)) for colour in found[counts > 500]}


BLUE, GREY = (0x00, 0x72, 0xB2), (0x8C, 0x8C, 0x8C)


def test_answers_are_drawn_beside_their_photos(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot_predictions([Prediction(Path("bad.jpg"), error="damaged"), *answers(photos, 4)], tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.size == (1518, 418)  # three to a row, two rows
    assert BLUE in colours(tmp_path / "grid.png")
    plot_predictions(answers(photos, 1, novel=True), tmp_path / "one.png")
    assert GREY in colours(tmp_path / "one.png")
    assert BLUE not in colours(tmp_path / "one.png")


def test_too_many_are_told_and_none_is_an_error(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(plots, "_MOST_PHOTOS", 2)
    plot_predictions(answers(photos, 5), tmp_path / "grid.png")
    assert "has the first 2 of 5 photos" in caplog.text
    with pytest.raises(ConfigError, match="nothing to draw"):
        plot_predictions([Prediction(Path("bad.jpg"), error="damaged")], tmp_path / "grid.png")


def test_without_matplotlib_the_extra_is_named(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'regraft\[plot\]'"):
        plot_predictions(answers(photos, 1), tmp_path / "grid.png")


def test_the_command_draws_five_and_prints_what_was_asked(photos: Path, tmp_path: Path, regraft: Command) -> None:
    pytest.importorskip("matplotlib")
    regraft("train", photos, "--effort", "quick", "--out", "run")
    done = regraft("predict", "run", photos / "circle", "--plot", "grid.png")
    assert all(len(line.split("\t")) == 4 for line in done.stdout.splitlines())
    assert BLUE in colours(tmp_path / "grid.png")
