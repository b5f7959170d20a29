from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from regraft.exploring import active_learning
from regraft.exploring.active_learning import margins, most_typical, most_uncertain
from regraft.features.unit_roots import unit_roots


def groups(sizes: list[int], seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rows of unit length around as many directions as there are sizes, and the number of each row's direction."""
    dice = np.random.default_rng(seed)
    middle = 3 * np.eye(len(sizes), 24, dtype=np.float32)
    number = np.repeat(np.arange(len(sizes)), sizes)
    return unit_roots(middle[number] + 0.02 * dice.random((len(number), 24), np.float32)), number


def pair(p: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.stack([p, 1 - p], axis=1).astype(np.float32)


def test_the_margin_is_that_of_the_two_largest_probabilities() -> None:
    found = margins(np.array([[0.1, 0.6, 0.3], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]], np.float32))
    np.testing.assert_allclose(found, [0.3, 0.0, 1.0], atol=1e-6)


def test_uncertain_photos_are_taken_from_each_group() -> None:
    rows, number = groups([40, 10, 10, 200])
    p = np.where(number == 0, 0.5, np.where(number == 3, 0.99, 0.55)) + 1e-4 * np.arange(len(rows)) / len(rows)
    assert set(number[np.argsort(margins(pair(p)), kind="stable")[:20]]) == {0}  # the margin alone sees one group
    chosen = most_uncertain(pair(p), lambda some: rows[some], 20)
    assert len(set(chosen.tolist())) == 20
    assert set(number[chosen]) == {0, 1, 2}
    assert (np.diff(margins(pair(p))[chosen]) >= 0).all()


def test_only_the_shortlist_needs_rows() -> None:
    rows, _ = groups([500])
    asked: list[int] = []

    def of(some: NDArray[np.int64]) -> NDArray[np.float32]:
        asked.extend(some.tolist())
        return rows[some]

    p = np.linspace(0.5, 1, 500)
    assert most_uncertain(pair(p), of, 10).tolist() == sorted(most_uncertain(pair(p), of, 10).tolist())
    assert set(asked) == set(range(30))


def test_typical_photos_are_those_amid_their_group_and_large_groups_come_first() -> None:
    rows, number = groups([30, 90, 60])
    rows[0] = unit_roots(np.ones((1, 24), np.float32))[0]  # one stray photo, which is typical of nothing
    chosen = most_typical(rows, 3)
    assert number[chosen].tolist() == [1, 2, 0]
    assert 0 not in chosen
    for photo in chosen:
        mates = np.flatnonzero(number == number[photo])
        similar = np.sort(rows[mates] @ rows[mates].T, axis=1)[:, -21:].mean(axis=1)
        assert mates[similar.argmax()] == photo


def test_fewer_photos_than_wanted_are_all_of_them() -> None:
    rows, _ = groups([3, 2])
    assert sorted(most_typical(rows, 50).tolist()) == list(range(5))
    assert most_uncertain(pair(np.array([0.9, 0.5, 0.7])), lambda some: rows[some], 50).tolist() == [1, 2, 0]
    assert most_typical(rows[:1], 1).tolist() == [0]


def test_equal_rows_leave_clusters_empty_and_are_still_enough() -> None:
    rows = np.ones((40, 24), np.float32) / np.float32(24**0.5)
    assert len(set(most_typical(rows, 12).tolist())) == 12
    assert len(set(most_uncertain(pair(np.full(40, 0.5)), lambda some: rows[some], 12).tolist())) == 12


def test_large_clusters_and_many_photos_take_bounded_work(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, number = groups([100, 50])
    monkeypatch.setattr(active_learning, "_MOST_COMPARED", 10)
    monkeypatch.setattr(active_learning, "_MOST_GROUPS", 2)
    chosen = most_typical(rows, 7)
    assert len(set(chosen.tolist())) == 7
    assert number[chosen].tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert all(place % 10 == 0 for place in chosen[number[chosen] == 0])
