from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from regraft.classifiers.evaluation import Evaluation, evaluate, evaluate_photos, measure
from regraft.classifiers.intervals import difference_interval, difference_test, f1_interval, wilson_interval
from regraft.classifiers.predictor import Answers
from regraft.errors import ConfigError, DataError
from regraft.heads.base import softmax
from regraft.photos.dataset import Dataset, ImageRecord
from regraft.photos.images import Problem
from regraft.sharding import shard
from tests.conftest import SHAPES, draw_photo

CLASSES = ("a", "b", "c")


def rows(*values: Sequence[float]) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def known(p: NDArray[np.float32]) -> Answers:
    """Answers that say nothing of novelty."""
    return Answers(p, np.full(len(p), np.nan, np.float32))


def measured() -> Evaluation:
    p = rows([0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.9, 0.05, 0.05], [0.2, 0.7, 0.1])
    return measure(known(p), np.array([0, 1, 1, 1]), CLASSES, [Path(f"{i}.jpg") for i in range(4)])


def test_the_figures_are_those_of_the_definitions() -> None:
    found = measured()
    assert found.accuracy == 0.75
    assert found.confusion == ((1, 0, 0), (1, 2, 0), (0, 0, 0))
    assert found.log_loss == pytest.approx(-np.log([0.8, 0.6, 0.05, 0.7]).mean(), rel=1e-6)
    a, b, c = found.per_class
    assert (a.n, a.precision, a.recall, a.f1) == (1, 0.5, 1.0, pytest.approx(2 / 3))
    assert (b.n, b.precision, b.recall) == (3, 1.0, pytest.approx(2 / 3))
    assert (c.n, c.precision, c.recall, c.f1) == (0, None, None, None)
    assert [(m.path.name, m.label, m.predicted) for m in found.mistakes] == [("2.jpg", "b", "a")]
    assert found.top5 is None


def test_figures_agree_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    dice = np.random.default_rng(0)
    p = dice.dirichlet(np.ones(8), 500).astype(np.float32)
    y = dice.integers(0, 8, 500)
    found = measure(known(p), y, tuple("abcdefgh"), [Path("x")] * 500)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(y, p.argmax(1))
    np.testing.assert_allclose(
        np.array([[c.precision, c.recall, c.f1] for c in found.per_class], float), np.array([precision, recall, f1]).T
    )
    assert found.log_loss == pytest.approx(metrics.log_loss(y, p / p.sum(axis=1, keepdims=True, dtype=float)), rel=1e-5)
    assert found.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(y, p.argmax(1)))
    assert found.macro_f1 == pytest.approx(metrics.f1_score(y, p.argmax(1), average="macro"))
    assert found.top5 == pytest.approx(metrics.top_k_accuracy_score(y, p, k=5))


def test_wilson_gives_the_textbook_interval() -> None:
    low, high = wilson_interval(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert wilson_interval(10, 10)[1] == pytest.approx(1.0)
    assert wilson_interval(0, 5)[0] == pytest.approx(0.0, abs=1e-12)


def test_a_design_effect_widens_the_interval_as_fewer_photos_do() -> None:
    assert wilson_interval(90, 100, 2.0) == pytest.approx(wilson_interval(45, 50))
    low, high = wilson_interval(90, 100)
    wide_low, wide_high = wilson_interval(90, 100, 1.35)
    assert wide_low < low < high < wide_high


def test_the_interval_of_a_difference_is_that_of_newcombes_paper() -> None:
    assert difference_interval((48, 80), (56, 70)) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert difference_interval((0, 20), (0, 10))[1] == pytest.approx(wilson_interval(0, 10)[1])
    grouped = difference_interval((96, 160), (112, 140), (2.0, 2.0))
    assert grouped == pytest.approx(difference_interval((48, 80), (56, 70)))


def test_the_test_of_a_difference_is_the_chi_squared_test_with_yates_correction() -> None:
    # [[8, 2], [1, 9]]: chi-squared is 20 * (|8 * 9 - 2 * 1| - 10)^2 / (9 * 11 * 10 * 10) = 7.2727
    assert difference_test((8, 10), (1, 10)) == pytest.approx(0.00700, abs=1e-5)
    assert difference_test((16, 20), (2, 20), (2.0, 2.0)) == pytest.approx(difference_test((8, 10), (1, 10)))
    assert difference_test((0, 20), (0, 10)) == 1.0
    assert difference_test((5, 10), (6, 11)) == 1.0


def test_each_class_has_intervals_that_hold_its_figures_and_f1_is_that_of_the_jaccard_index() -> None:
    found = measured()
    for row in found.per_class[:2]:
        for figure, interval in (
            (row.precision, row.precision_interval),
            (row.recall, row.recall_interval),
            (row.f1, row.f1_interval),
        ):
            assert figure is not None
            assert interval is not None
            assert interval[0] <= figure + 1e-12
            assert figure <= interval[1] + 1e-12
    assert found.per_class[2].recall_interval is None
    low, high = f1_interval(80, 100, 90)
    a, b = wilson_interval(80, 110)
    assert (low, high) == pytest.approx((2 * a / (1 + a), 2 * b / (1 + b)))
    again = Evaluation.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.per_class == found.per_class


def test_calibration_error_of_known_cases() -> None:
    sure = np.tile(rows([1.0, 0.0]), (10, 1))
    assert measure(known(sure), np.zeros(10, int), ("a", "b"), [Path()] * 10).calibration_error == 0.0
    assert measure(known(sure), np.ones(10, int), ("a", "b"), [Path()] * 10).calibration_error == 1.0
    doubtful = np.tile(rows([0.7, 0.3]), (10, 1))
    half = measure(known(doubtful), np.array([0] * 5 + [1] * 5), ("a", "b"), [Path()] * 10)
    assert half.calibration_error == pytest.approx(0.2, abs=1e-6)


def test_nothing_to_measure_is_no_figure() -> None:
    found = measure(known(np.empty((0, 3), np.float32)), np.array([], int), CLASSES, [])
    assert (found.n, found.accuracy, found.interval, found.log_loss) == (0, None, None, None)
    assert (found.uncalibrated, found.rejected, found.coverage, found.reliability) == (None, None, (), ())


def test_the_figures_before_scaling_are_those_of_the_unscaled_logits() -> None:
    logits = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32) * 3
    y = np.random.default_rng(1).integers(0, 4, 300)
    scaled = measure(known(softmax(logits / 2.5)), y, tuple("abcd"), [Path()] * 300, temperature=2.5)
    plain = measure(known(softmax(logits)), y, tuple("abcd"), [Path()] * 300)
    assert scaled.uncalibrated is not None
    assert scaled.uncalibrated.log_loss == pytest.approx(plain.log_loss, rel=1e-4)
    assert scaled.uncalibrated.calibration_error == pytest.approx(plain.calibration_error, rel=1e-3)
    assert [b.n for b in scaled.uncalibrated.reliability] == [b.n for b in plain.reliability]
    assert sum(b.n for b in plain.reliability) == 300


def test_the_surest_photos_are_measured_alone() -> None:
    p = rows(*([[0.9, 0.1]] * 5), *([[0.6, 0.4]] * 5))
    y = np.array([0] * 5 + [1] * 5)
    coverage = {c.share: c for c in measure(known(p), y, ("a", "b"), [Path()] * 10).coverage}
    assert (coverage[1.0].accuracy, coverage[1.0].probability) == (0.5, pytest.approx(0.6))
    assert (coverage[0.5].accuracy, coverage[0.5].probability) == (1.0, pytest.approx(0.9))


def test_photos_rejected_by_mistake_are_counted_but_stay_in_the_accuracy() -> None:
    answers = Answers(rows([0.9, 0.1], [0.2, 0.8]), np.array([0.5, 2.0], np.float32))
    found = measure(answers, np.array([0, 1]), ("a", "b"), [Path()] * 2, threshold=1.0)
    assert (found.accuracy, found.rejected) == (1.0, 0.5)


def test_what_predict_would_answer_is_counted() -> None:
    p = rows([0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4], [0.1, 0.9])
    answers = Answers(p, np.array([0.5, 2.0, 0.5, 2.0, 1.0], np.float32))
    y = np.array([0, 1, 1, 1, 1])
    found = measure(answers, y, ("a", "b"), [Path()] * 5, threshold=1.0)
    assert (found.right, found.wrong, found.refused) == (2, 1, 2)
    assert found.accuracy == pytest.approx(3 / 5)
    assert found.to_dict()["refused"] == 2
    never = measure(answers, y, ("a", "b"), [Path()] * 5)
    assert (never.right, never.wrong, never.refused) == (3, 2, 0)
    nothing = measure(known(np.empty((0, 3), np.float32)), np.array([], int), CLASSES, [])
    assert (nothing.right, nothing.wrong, nothing.refused) == (0, 0, 0)


class Shipped:
    """A double of a loaded artifact: knows the answers, cannot read one photo."""

    classes = CLASSES
    temperature = 1.0
    threshold = None

    def answers(self, images: Any, on_problem: Callable[[Problem], None] | None = None) -> Answers:
        return known(self.predict_proba(images, on_problem))

    def predict_proba(self, images: Any, on_problem: Callable[[Problem], None] | None = None) -> NDArray[np.float32]:
        result = np.full((len(images), 3), 0.1, np.float32)
        for i, image in enumerate(images):
            result[i, self.classes.index(image.label)] = 0.8
            if image.path.name == "bad.jpg":
                assert on_problem is not None
                on_problem(Problem(image.path, "damaged"))
                result[i] = np.nan
        return result


def test_any_predictor_can_be_evaluated_and_a_bad_photo_counts_in_no_figure() -> None:
    records = tuple(ImageRecord(Path(f"{n}.jpg"), label, n) for n, label in (("1", "b"), ("bad", "b"), ("2", "c")))
    evaluation, problems = evaluate(Shipped(), Dataset(records, ("b", "c")))
    assert (evaluation.n, evaluation.accuracy) == (2, 1.0)
    assert [p.path.name for p in problems] == ["bad.jpg"]


def test_classes_the_predictor_does_not_know_are_named() -> None:
    dataset = Dataset((ImageRecord(Path("1.jpg"), "z", "1"),), ("z",))
    with pytest.raises(DataError, match="does not know: z; it knows a, b, c"):
        evaluate(Shipped(), dataset)


def test_meeting_training_photos_again_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from tests.conftest import draw_folder

    root = draw_folder(tmp_path, {"a": 3, "b": 3})
    digests = [r.digest for r in Dataset.open(root).records]
    evaluation, _ = evaluate_photos(Shipped(), str(root), frozenset(digests[:2]))
    assert evaluation.n == 6
    assert "2 of the 6 photos were trained on" in caplog.text


def test_of_photos_with_sides_the_test_side_is_measured(tmp_path: Path) -> None:
    from tests.conftest import draw_folder

    draw_folder(tmp_path / "train", {"a": 3, "b": 3})
    draw_folder(tmp_path / "test", {"a": 2, "b": 2}, seed=50)
    assert evaluate_photos(Shipped(), str(tmp_path))[0].n == 4


def test_shards_of_training_photos_are_known_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for label in "ab":
        (tmp_path / "p" / label).mkdir(parents=True)
        draw_photo(SHAPES["circle"], ord(label)).save(tmp_path / "p" / label / "1.webp")
    digests = [r.digest for r in Dataset.open(tmp_path / "p").records]
    shard(tmp_path / "p", tmp_path / "s")
    assert not set(digests) & {r.digest for r in Dataset.open(tmp_path / "s").records}  # encoded anew
    evaluate_photos(Shipped(), str(tmp_path / "s"), frozenset(digests))
    assert "2 of the 2 photos were trained on" in caplog.text


def test_a_frame_has_a_row_for_each_class() -> None:
    pytest.importorskip("pandas")
    frame = measured().to_frame()
    assert list(frame.index) == ["a", "b", "c"]
    assert frame.loc["b", "n"] == 3
    assert frame.loc["b", "recall"] == pytest.approx(2 / 3)
    assert frame.loc["b", "recall_low"] == pytest.approx(wilson_interval(2, 3)[0])
    assert frame.loc["c"].isna().sum() == 9
    assert Evaluation(0).to_frame().empty


def test_without_pandas_the_error_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="to_frame\\(\\) needs pandas; type pip install pandas"):
        measured().to_frame()


def test_figures_are_drawn_of_what_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = measured()
    found.plot_confusion().savefig(tmp_path / "confusion.png")
    found.plot_reliability().savefig(tmp_path / "reliability.png")
    for name in ("confusion", "reliability"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="no photos"):
        Evaluation(0).plot_reliability()
    with pytest.raises(ConfigError, match="no confusion matrix"):
        Evaluation(0).plot_confusion()
