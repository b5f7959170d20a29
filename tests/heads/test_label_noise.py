"""Wrong labels are found where there are many, and right ones are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from regraft.features.features import Features
from regraft.heads import logistic
from regraft.heads.label_noise import are_better, contradicted, estimate, is_noisy
from regraft.heads.logistic import LogisticRegression
from regraft.heads.logistic_objective import Solver


def blobs(
    count: int, wrong: float = 0.0, seed: int = 0, classes: int = 4, spread: float = 1.0
) -> tuple[Features, np.ndarray]:
    """Clusters of which a share of the labels is wrong, and which labels those are."""
    dice = np.random.default_rng(seed)
    centres = np.abs(np.random.default_rng(7).normal(size=(classes, 40)))
    y = dice.integers(0, classes, count)
    x = np.abs(centres[y] + spread * 0.5 * dice.normal(size=(count, 40))).astype(np.float32)
    flipped = dice.random(count) < wrong
    labels = np.where(flipped, (y + 1 + dice.integers(0, classes - 1, count)) % classes, y)
    names = tuple("abcd"[:classes])
    return Features(x, labels.astype(np.int64), names, ("",) * count, "test", ((40,),)), flipped


def right(head: LogisticRegression, test: Features) -> float:
    return float((head.logits(test.x).argmax(1) == test.y).mean())


@pytest.mark.parametrize("count", [300, 1200])
def test_photos_with_wrong_labels_are_left_out_and_the_head_is_better_for_it(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, flipped = blobs(count, 0.2, spread=1.5)
    test, _ = blobs(1000, seed=1, spread=1.5)
    head = LogisticRegression().fit(train, train.select([]))
    assert 0.6 * flipped.sum() < head.left_out_ < 1.3 * flipped.sum()
    monkeypatch.setattr(logistic, "is_noisy", lambda _: False)
    monkeypatch.setattr(logistic, "are_better", lambda *_: False)
    by_heart = LogisticRegression().fit(train, train.select([]))
    assert by_heart.left_out_ == 0
    assert right(head, test) > right(by_heart, test) + 0.01


@pytest.mark.parametrize("spread", [1.0, 2.5])
@pytest.mark.parametrize("count", [20, 60, 300, 1200])
def test_right_labels_are_left_alone_also_where_classes_overlap(count: int, spread: float) -> None:
    train, _ = blobs(count, spread=spread)
    assert LogisticRegression().fit(train, train.select([])).left_out_ == 0


@pytest.mark.parametrize("sizes", [(300, *(20,) * 12), (*(100,) * 5, *(10,) * 5)])
def test_right_labels_of_rare_classes_are_left_alone_whatever_the_class_weight(sizes: tuple[int, ...]) -> None:
    dice = np.random.default_rng(0)
    y = np.repeat(np.arange(len(sizes)), sizes)
    centres = np.abs(dice.normal(size=(len(sizes), 40)))
    x = np.abs(centres[y] + 0.9 * dice.normal(size=(len(y), 40))).astype(np.float32)
    train = Features(x, y, tuple(map(str, range(len(sizes)))), ("",) * len(y), "test", ((40,),))
    for weight in ("none", "balanced", "logit-adjusted"):
        assert LogisticRegression(class_weight=weight).fit(train, train.select([])).left_out_ == 0


def test_the_share_of_random_labels_is_estimated() -> None:
    dice = np.random.default_rng(0)
    y = dice.integers(0, 3, 3000)
    logits = (3 * np.eye(3)[y] + dice.normal(size=(3000, 3))).astype(np.float32)
    assert not is_noisy(estimate(logits, y))
    random = dice.random(3000) < 0.3
    labels = np.where(random, dice.integers(0, 3, 3000), y)
    noise = estimate(logits, labels)
    assert noise.share == pytest.approx(0.3, abs=0.051)
    assert is_noisy(noise)
    found = contradicted(logits, labels, noise.temperature)
    assert found[labels != y].mean() > 0.6
    assert found[labels == y].mean() < 0.05


def test_better_logits_are_told_apart_whatever_their_scale() -> None:
    dice = np.random.default_rng(0)
    y = dice.integers(0, 3, 300)
    good = (2 * np.eye(3)[y] + dice.normal(size=(300, 3))).astype(np.float32)
    bad = (np.eye(3)[y] + dice.normal(size=(300, 3))).astype(np.float32)
    assert are_better(good, 10 * bad, y)
    assert not are_better(bad, good, y)
    assert not are_better(good, 10 * good, y)


def test_rare_classes_are_not_taken_for_wrong_labels() -> None:
    """A photo that is alone in its class is answered wrong by all others, and its class must not be lost."""
    many, _ = blobs(450, 0.3, classes=3)
    y = many.y.copy()
    y[:20] = np.arange(3, 23)
    train = Features(many.x, y, tuple(map(str, range(23))), many.digests, "test", many.stages)
    head = LogisticRegression().fit(train, train.select([]))
    doubts = head._doubts(head.roots_.of_features(train), Solver(1e-4))  # type: ignore[union-attr]
    assert doubts.wrong.sum() > 20
    assert not doubts.wrong[:20].any()
