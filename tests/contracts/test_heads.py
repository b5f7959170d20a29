"""What every registered head owes, plug-ins included."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from safetensors.numpy import load, save

from regraft.errors import DataError
from regraft.features.features import Features
from regraft.heads.base import Explained, Head, Step, cross_entropy, registry, softmax
from tests import keras_float32
from tests.heads.test_heads import blobs, none_of


@pytest.fixture(params=registry.names())
def head_class(request: pytest.FixtureRequest) -> type[Head]:
    return registry.load(request.param)


@pytest.fixture(params=[(), ((4, 8),)], ids=["features", "stages"])
def drawn(request: pytest.FixtureRequest) -> Callable[..., Features]:
    """Draw features whose stages are unknown, and features of two stages."""
    return partial(blobs, stages=request.param)


def test_it_learns(head_class: type[Head], drawn: Callable[..., Features]) -> None:
    train, test = drawn(), drawn(seed=1)
    head = head_class()
    assert head.fit(train, drawn(seed=2)) is head
    logits = head.logits(test.x)
    assert logits.shape == (len(test), 4)
    assert logits.dtype == np.float32
    assert (logits.argmax(1) == test.y).mean() > 0.6
    assert cross_entropy(logits, test.y) < np.log(4)
    np.testing.assert_allclose(softmax(logits).sum(axis=1), 1, atol=1e-5)


def test_its_state_is_all_of_it(head_class: type[Head], drawn: Callable[..., Features]) -> None:
    train = drawn()
    head = head_class().fit(train, drawn(seed=2))
    state = load(save({k: np.ascontiguousarray(v) for k, v in head.state().items()}))
    np.testing.assert_array_equal(head_class.from_state(state).logits(train.x), head.logits(train.x))
    with pytest.raises(KeyError):
        head_class.from_state({})


def test_it_does_without_val_and_with_few_photos(head_class: type[Head], drawn: Callable[..., Features]) -> None:
    few = drawn(4, classes=4).select([0, 1, 2, 3])
    two = few.select([i for i in range(4) if few.y[i] in np.unique(few.y)[:2]])
    head = head_class().fit(two, none_of(two))
    assert np.isfinite(head.logits(two.x)).all()
    assert head.logits(two.x[:0]).shape == (0, 4)


def test_it_is_reproducible(head_class: type[Head], drawn: Callable[..., Features]) -> None:
    one, two = (head_class().fit(drawn(), drawn(seed=2)).state() for _ in range(2))
    assert all(np.array_equal(one[k], two[k]) for k in one)


def test_its_weight_at_a_photo_is_exact(head_class: type[Head], drawn: Callable[..., Features]) -> None:
    head = head_class().fit(drawn(), drawn(seed=2))
    if not isinstance(head, Explained):
        pytest.skip("its logits are no sum over the features")
    x = drawn(seed=1).x[:5].copy()
    x[0, 3] = 0
    bias = head.logits(x) - np.stack([row @ head.weight_at(row) for row in x])
    np.testing.assert_allclose(bias, np.broadcast_to(bias[:1], bias.shape), atol=1e-4)  # the same at every photo


def test_it_reports_steps(head_class: type[Head], drawn: Callable[..., Features]) -> None:
    steps: list[Step] = []
    head_class().fit(drawn(), drawn(seed=2), steps.append)
    assert steps
    assert all(0 <= s.val_accuracy <= 1 and s.train_loss >= 0 for s in steps)


def test_one_class_is_refused(head_class: type[Head], drawn: Callable[..., Features]) -> None:
    train = drawn()
    with pytest.raises(DataError, match="only 'c1' to train on"):
        head_class().fit(train.select(np.flatnonzero(train.y == 1).tolist()), none_of(train))


def test_as_operations_of_keras_it_says_the_same(head_class: type[Head], drawn: Callable[..., Features]) -> None:
    import keras

    train, test = drawn(), drawn(seed=1)
    head = head_class().fit(train, drawn(seed=2))
    x = keras.Input((train.x.shape[1],))
    found = keras_float32.run(keras.Model(x, head.as_keras(x)), test.x[:50])
    np.testing.assert_allclose(found, head.logits(test.x[:50]), rtol=1e-3, atol=1e-3)
