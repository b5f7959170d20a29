from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.errors import ConfigError
from regraft.training.folding import NEVER, fold_photos
from tests.photos.test_splitting import counts, dataset, record


@settings(max_examples=60, deadline=None)
@given(counts, st.integers(2, 7), st.text(max_size=3))
def test_folds_hold_equal_numbers_of_each_class(sizes: dict[str, int], folds: int, salt: str) -> None:
    data = dataset([record(label, i) for label, n in sizes.items() for i in range(n)])
    fold = fold_photos(data, folds, salt)
    labels = np.array([r.label for r in data.records])
    for label, n in sizes.items():
        inside = np.bincount(fold[(labels == label) & (fold != NEVER)], minlength=folds)
        assert inside.sum() == (n if n > 1 else 0)
        assert inside.max() - inside.min() <= 1
    totals = np.bincount(fold[fold != NEVER], minlength=folds)
    assert totals.max() - totals.min() <= len(sizes)


def test_copies_and_groups_stay_in_one_fold() -> None:
    records = [record(label, i) for label in "ab" for i in range(20)]
    data = dataset([*records, record("a", 3, "again.jpg")])
    together = [[0, 7, 25], [8, 9]]
    for salt in "xyz":
        fold = fold_photos(data, 5, salt, together)
        assert all(len({fold[i] for i in group}) == 1 for group in together)
        assert fold[3] == fold[40]


def test_a_class_of_one_picture_is_never_held_out() -> None:
    data = dataset([record("a", 0), record("a", 1), *(record("b", i) for i in range(9))])
    fold = fold_photos(data, 3, together=[[0, 1]])
    assert fold[:2].tolist() == [NEVER, NEVER]
    assert (fold[2:] != NEVER).all()


def test_two_photos_of_each_class_are_held_out_together() -> None:
    data = dataset([record("abc"[i % 3], i) for i in range(6)])
    fold = fold_photos(data, 5)
    assert sorted(fold.tolist()) == [0, 0, 0, 1, 1, 1]
    assert {r.label for r, number in zip(data.records, fold, strict=True) if number == 0} == {"a", "b", "c"}


def test_the_salt_draws_other_folds_and_the_order_does_not() -> None:
    data = dataset([record("ab"[i % 2], i) for i in range(60)])
    one, other = fold_photos(data, 5, "one"), fold_photos(data, 5, "other")
    assert (one != other).any()
    turned = dataset(list(reversed(data.records)))
    assert fold_photos(turned, 5, "one").tolist() == one[::-1].tolist()
    assert Counter(one.tolist()) == Counter(dict.fromkeys(range(5), 12))


def test_one_fold_is_refused() -> None:
    with pytest.raises(ConfigError, match="folds 1 is below 2"):
        fold_photos(dataset([record("a", i) for i in range(4)]), 1)
