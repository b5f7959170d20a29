from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from regraft.classifiers.intervals import wilson_interval
from regraft.exploring.domain_classifier import FOLDS, auc_over_folds, out_of_fold_scores
from regraft.features.features import Features

Bools = NDArray[np.bool_]
Indices = NDArray[np.int64]


def made(dice: np.random.Generator, each: int, shift: float = 0.0, width: int = 40) -> tuple[Features, Bools, Indices]:
    """Features of two sets of as many photos, the new ones moved along some features, and their folds."""
    new = np.repeat([False, True], each)
    x = dice.standard_normal((2 * each, width)).astype(np.float32)
    x[new, :8] += shift
    fold = np.tile(np.arange(each) % FOLDS, 2)
    digests = tuple(f"{i:064x}" for i in range(2 * each))
    return Features(x, new.astype(np.int64), ("run", "new"), digests, "test"), new, fold


def test_the_auc_is_the_share_of_pairs_of_a_fold_that_are_in_order() -> None:
    dice = np.random.default_rng(0)
    scores = dice.integers(0, 6, 100).astype(np.float32)  # with ties, which count half
    new, fold, unit = np.arange(100) % 2 == 0, np.arange(100) // 20, np.arange(100)
    pairs = [
        0.5 * float(scores[i] == scores[j]) + float(scores[i] > scores[j])
        for i in range(100)
        for j in range(100)
        if fold[i] == fold[j] and new[i] and not new[j]
    ]
    found = auc_over_folds(scores, new, fold, unit)
    assert found is not None
    assert found.value == pytest.approx(np.mean(pairs))
    assert found.interval[0] < found.value < found.interval[1]


def test_of_one_fold_the_variance_is_that_of_delong_times_the_correction() -> None:
    dice = np.random.default_rng(1)
    new = np.repeat([False, True], [70, 50])
    scores = (dice.standard_normal(120) + 0.8 * new).astype(np.float32)
    found = auc_over_folds(scores, new, np.zeros(120, np.int64), np.arange(120))
    assert found is not None
    order = (scores[new][:, np.newaxis] > scores[~new]).astype(float)
    variance = order.mean(axis=1).var(ddof=1) / 50 + order.mean(axis=0).var(ddof=1) / 70
    corrected, n = variance * (1 + FOLDS / (FOLDS - 1)), found.value * (1 - found.value)
    assert found.interval == pytest.approx(wilson_interval(found.value * 1000, 1000, corrected * 1000 / n))


def test_photos_that_belong_together_count_as_one() -> None:
    dice = np.random.default_rng(2)
    new, fold = np.arange(100) % 2 == 0, np.arange(100) // 20
    scores = (dice.standard_normal(100) + 0.7 * new).astype(np.float32)
    unit = np.arange(100)
    alone = auc_over_folds(scores, new, fold, unit)
    again = auc_over_folds(np.tile(scores, 4), np.tile(new, 4), np.tile(fold, 4), np.tile(unit, 4))
    apart = auc_over_folds(np.tile(scores, 4), np.tile(new, 4), np.tile(fold, 4), np.arange(400))
    assert alone is not None
    assert again is not None
    assert apart is not None
    assert again.value == pytest.approx(alone.value)
    assert again.interval == pytest.approx(alone.interval, abs=1e-6)
    assert apart.interval[0] > again.interval[0] + 0.05


def test_sets_that_are_wholly_apart_still_have_an_interval() -> None:
    features, new, fold = made(np.random.default_rng(3), 30, width=1, shift=50.0)
    found = auc_over_folds(out_of_fold_scores(features, fold), new, fold, np.arange(60))
    assert found is not None
    assert found.value == 1.0
    assert found.interval == pytest.approx(wilson_interval(30, 30))


def test_too_few_photos_or_units_have_no_auc() -> None:
    scores, new = np.zeros(100, np.float32), np.arange(100) < 19
    assert auc_over_folds(scores, new, np.arange(100) % FOLDS, np.arange(100)) is None
    new = np.arange(100) % 2 == 0
    assert auc_over_folds(scores, new, np.arange(100) % FOLDS, np.arange(100) // 12) is None
    assert auc_over_folds(scores, new, np.arange(100) % 2, np.arange(100)) is None  # no fold has photos of both sets


def test_equal_sets_rarely_seem_to_differ_and_a_shift_is_seen() -> None:
    dice = np.random.default_rng(4)
    low = []
    for shift in (0.0,) * 100 + (0.6,) * 20:
        features, new, fold = made(dice, 60, shift)
        found = auc_over_folds(out_of_fold_scores(features, fold), new, fold, np.arange(120))
        assert found is not None
        low.append(found.interval[0])
    assert sum(end > 0.5 for end in low[:100]) <= 7
    assert sum(end > 0.5 for end in low[100:]) >= 15
