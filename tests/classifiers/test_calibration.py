"""Temperature, novelty, threshold: on drawn numbers whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from regraft import Classifier, TrainConfig, train
from regraft.classifiers.calibration import FEWEST, Calibration, fit_temperature, is_novel
from regraft.features.features import Features
from regraft.heads.base import softmax
from regraft.heads.logistic import LogisticRegression
from tests.conftest import Command, draw_folder


def test_the_temperature_is_the_one_the_logits_were_spoiled_by() -> None:
    dice = np.random.default_rng(0)
    logits = dice.normal(size=(20_000, 4)).astype(np.float32) * 2
    y = np.array([dice.choice(4, p=p / p.sum()) for p in softmax(logits).astype(float)])
    assert fit_temperature(logits * np.float32(3), y) == pytest.approx(3.0, rel=0.05)
    assert fit_temperature(logits / np.float32(2), y) == pytest.approx(0.5, rel=0.05)


def test_a_few_photos_that_are_all_right_make_nothing_certain() -> None:
    logits = np.eye(3, dtype=np.float32) * np.float32(5)
    assert 0.9 < fit_temperature(logits, np.arange(3)) < 1.0


def drawn(n: int, seed: int, directions: NDArray[np.float32]) -> Features:
    """Photos of two classes: like features of a network, none below 0, each class along a direction of its own."""
    dice = np.random.default_rng(seed)
    y = dice.integers(0, 2, n)
    x = np.abs(directions[y] * dice.uniform(0.5, 1.5, (n, 1)) + dice.normal(size=(n, 40)) * 0.05)
    return Features(x.astype(np.float32), y, ("a", "b"), tuple(map(str, range(n))), "drawn")


@pytest.fixture
def learned() -> tuple[Calibration, LogisticRegression, NDArray[np.float32]]:
    directions = np.abs(np.random.default_rng(7).normal(size=(4, 40))).astype(np.float32)
    train, val = drawn(300, 1, directions), drawn(100, 2, directions)
    head = LogisticRegression().fit(train, val)
    return Calibration.fit(head, train, val, 40, 0.05), head, directions


def test_strangers_are_rejected_and_few_others(
    learned: tuple[Calibration, LogisticRegression, NDArray[np.float32]],
) -> None:
    calibration, head, directions = learned
    known, strange = drawn(400, 3, directions), drawn(400, 4, directions[2:])
    shares = [
        is_novel(calibration.answers(side.x, head.logits(side.x)).novelty, calibration.threshold).mean()
        for side in (known, strange)
    ]
    assert shares[0] < 0.12
    assert shares[1] > 0.9


def test_the_share_of_val_that_is_rejected_is_what_was_asked_for(
    learned: tuple[Calibration, LogisticRegression, NDArray[np.float32]],
) -> None:
    _, head, directions = learned
    train, val = drawn(300, 1, directions), drawn(100, 2, directions)
    for reject in (0.01, 0.05, 0.2):
        found = Calibration.fit(head, train, val, 40, reject)
        novelty = found.answers(val.x, head.logits(val.x)).novelty
        assert reject - 0.02 <= is_novel(novelty, found.threshold).mean() <= reject
    assert Calibration.fit(head, train, val, 40, 0.0).threshold is None


def test_too_few_val_photos_reject_nothing(
    learned: tuple[Calibration, LogisticRegression, NDArray[np.float32]],
) -> None:
    _, head, directions = learned
    train, val = drawn(300, 1, directions), drawn(FEWEST - 1, 2, directions)
    found = Calibration.fit(head, train, val, 40, 0.05)
    assert (found.novelty, found.threshold) == (None, None)
    assert found.temperature > 0
    assert np.isnan(found.answers(val.x, head.logits(val.x)).novelty).all()
    assert Calibration.fit(head, train, val.select([]), 40, 0.05) == Calibration()


def test_what_was_learned_goes_through_its_state(
    learned: tuple[Calibration, LogisticRegression, NDArray[np.float32]],
) -> None:
    calibration, head, directions = learned
    again = Calibration.from_state(calibration.to_dict(), calibration.state())
    x = drawn(20, 5, directions).x
    for before, after in zip(calibration.answers(x, head.logits(x)), again.answers(x, head.logits(x)), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_trained_run_knows_a_stranger(tmp_path: Path, cache: Path) -> None:
    photos = draw_folder(tmp_path / "photos", {"circle": 40, "Square": 40})
    strangers = draw_folder(tmp_path / "strangers", {"줄무늬": 20})
    classifier = train(photos, tmp_path / "run", TrainConfig(effort="quick", val=0.3, reject=0.1))
    assert classifier.threshold is not None
    assert classifier.metrics["val"]["rejected"] <= 0.1
    loaded = Classifier.load(tmp_path / "run")
    found = loaded.answers(sorted(strangers.rglob("*.jpg")))
    assert is_novel(found.novelty, loaded.threshold).mean() > 0.9
    assert loaded.calibration.to_dict() == classifier.calibration.to_dict()
    assert "none of these" in (tmp_path / "run" / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_the_command_line_tells_of_strangers(tmp_path: Path, regraft: Command) -> None:
    draw_folder(tmp_path / "photos", {"circle": 40, "Square": 40})
    draw_folder(tmp_path / "strangers", {"줄무늬": 10})
    regraft("train", "photos", "--out", "run", "--effort", "quick", "--val", "0.3", "--reject", "0.1")
    document = json.loads(regraft("evaluate", "run", "photos", "--unknown", "strangers", "--json").stdout)
    (group,) = document["unknown"]
    assert (group["n"], group["rejected"] > 0.8) == (10, True)
    assert [c["share"] for c in document["coverage"]] == [1.0, 0.95, 0.9, 0.8, 0.5]
    shown = regraft("evaluate", "run", "photos", "--unknown", "strangers").stdout
    assert "answered with none of these (95 % interval" in shown
    assert "before scaling" in shown
    lines = regraft("predict", "run", "strangers", "--top", "2").stdout.splitlines()
    told = [line.split("\t") for line in lines]
    assert all(len(cells) == 6 for cells in told)
    assert sum(cells[3] == "true" for cells in told) > 8
