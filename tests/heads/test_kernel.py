"""Kernel logistic regression: borders that are curved, landmarks, labels with probabilities, and what is stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from regraft.features.features import Features
from regraft.foundation.files import limited_threads
from regraft.heads import kernel
from regraft.heads.base import cross_entropy, restore, softmax
from regraft.heads.kernel import KernelLogisticRegression
from regraft.heads.logistic import LogisticRegression


def rings(count: int, seed: int, stages: tuple[tuple[int, ...], ...] = ()) -> Features:
    """A class around another one: no plane parts them. The features are above 0, as averages of activations are."""
    dice = np.random.default_rng(seed)
    y = dice.integers(0, 2, count)
    angle, radius = dice.uniform(0, 2 * np.pi, count), np.where(y, 3.0, 1.0) + dice.normal(0, 0.2, count)
    plane = np.stack([np.cos(angle) * radius, np.sin(angle) * radius], axis=1) + 6
    x = np.concatenate([plane, dice.uniform(4, 5, (count, 4))], axis=1).astype(np.float32)
    return Features(x, y, ("inner", "outer"), ("",) * count, "test", stages)


def none_of(features: Features) -> Features:
    return features.select([])


def accuracy_of(head: KernelLogisticRegression | LogisticRegression, test: Features) -> float:
    return float((head.logits(test.x).argmax(axis=1) == test.y).mean())


@pytest.mark.parametrize("stages", [(), ((6,),)])
def test_it_parts_a_class_from_one_that_surrounds_it(stages: tuple[tuple[int, ...], ...]) -> None:
    train, val, test = (rings(count, seed, stages) for seed, count in enumerate((600, 100, 400)))
    assert accuracy_of(LogisticRegression([0.1]).fit(train, val), test) < 0.7
    assert accuracy_of(KernelLogisticRegression().fit(train, val), test) > 0.9


def test_it_is_logistic_regression_on_the_coordinates_of_the_kernel_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all photos as landmarks, scikit-learn finds the same logits on the eigenvectors of the similarities."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    train, test = rings(300, 0), rings(200, 1)
    monkeypatch.setattr(kernel, "_TOLERANCE", 1e-6)
    ours = KernelLogisticRegression().fit(train, none_of(train))
    among, towards = (ours._similarities(ours.roots_.of(side.x) - ours.centre_) for side in (train, test))
    values, vectors = np.linalg.eigh(among + kernel._JITTER * np.eye(len(train)))
    basis = vectors / np.sqrt(values)
    theirs = linear_model.LogisticRegression(tol=1e-8, max_iter=10_000)
    # With two classes scikit-learn has one weight, and we two that are opposite, which have half the penalty together.
    theirs = theirs.set_params(C=2 * ours.strength_).fit(among @ basis, train.y)
    found = softmax(ours.logits(test.x))
    np.testing.assert_allclose(found, theirs.predict_proba(towards @ basis), atol=0.01)


def test_of_many_photos_some_are_landmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = rings(600, 0), rings(300, 1)
    whole = KernelLogisticRegression().fit(train, none_of(train))
    monkeypatch.setattr(kernel, "_LANDMARKS", 60)
    some, again = (KernelLogisticRegression().fit(train, none_of(train)) for _ in range(2))
    assert (len(whole.landmarks_), len(some.landmarks_)) == (600, 60)
    np.testing.assert_array_equal(some.logits(test.x), again.logits(test.x))
    assert accuracy_of(some, test) > 0.9


def test_blocks_and_threads_change_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = rings(300, 0), rings(200, 1)
    head = KernelLogisticRegression().fit(train, none_of(train))
    with limited_threads(1):
        alone = KernelLogisticRegression().fit(train, none_of(train))
    expected = head.logits(test.x)
    np.testing.assert_allclose(alone.logits(test.x), expected, atol=1e-4)
    monkeypatch.setattr(kernel, "_BLOCK_ROWS", 7)
    np.testing.assert_allclose(head.logits(test.x), expected, atol=1e-4)


def test_it_learns_from_probabilities() -> None:
    train, test = rings(600, 0), rings(300, 1)
    unsure = replace(train, certainty=np.full(len(train), 0.7, np.float32))
    sure, careful = (KernelLogisticRegression().fit(some, none_of(some)) for some in (train, unsure))
    means = [float(softmax(head.logits(test.x)).max(axis=1).mean()) for head in (sure, careful)]
    assert means[1] < 0.8 < means[0]
    assert accuracy_of(careful, test) > 0.9


def test_val_chooses_the_strength() -> None:
    train, val = rings(200, 0), rings(200, 1)
    mixed = replace(val, y=np.random.default_rng(0).permutation(val.y))  # labels that nothing foretells
    assert KernelLogisticRegression().fit(train, mixed).strength_ == kernel._STRENGTHS[0]
    chosen = KernelLogisticRegression().fit(train, val)
    assert chosen.strength_ > kernel._STRENGTHS[0]
    assert cross_entropy(chosen.logits(val.x), val.y) < cross_entropy(np.zeros((200, 2), np.float32), val.y)


@pytest.mark.parametrize("alike", [2, 40])
def test_copies_of_a_photo_do_no_harm(alike: int) -> None:
    train, test = rings(200, 0), rings(300, 1)
    copies = train.select([i for i in range(len(train)) for _ in range(alike if i < 20 else 1)])
    assert accuracy_of(KernelLogisticRegression().fit(copies, none_of(copies)), test) > 0.85
    same = train.select([0] * 20)
    same = replace(same, y=np.arange(20) % 2)  # one photo under two labels: nothing can be learned
    logits = KernelLogisticRegression().fit(same, none_of(same)).logits(test.x)
    np.testing.assert_allclose(softmax(logits), 0.5, atol=0.01)


def test_a_stored_head_gives_the_same_logits_and_refuses_other_arrays() -> None:
    train, test = rings(200, 0, ((2, 4),)), rings(100, 1)
    head = KernelLogisticRegression().fit(train, none_of(train))
    state = head.state()
    np.testing.assert_array_equal(restore("kernel", state, 2, 6).logits(test.x), head.logits(test.x))
    for name, array in [
        ("gamma", np.array([0.0])),
        ("gamma", np.array([np.nan])),
        ("landmarks", state["landmarks"][:-1]),
        ("landmark_weight", state["landmark_weight"][:, :0]),
        ("root_widths", np.array([2, 5])),
    ]:
        with pytest.raises(ValueError, match="the arrays make no kernel head"):
            restore("kernel", {**state, name: array}, 2, 6)
    with pytest.raises(ValueError, match="gamma is missing"):
        restore("kernel", {key: value for key, value in state.items() if key != "gamma"}, 2, 6)
