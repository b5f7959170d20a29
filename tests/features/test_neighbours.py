from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from regraft.features import neighbours
from regraft.features.neighbours import last_stage, nearest
from regraft.features.unit_roots import unit_roots

Matrix = NDArray[np.float32]


def unit_rows(count: int, width: int = 40, seed: int = 0) -> Matrix:
    return unit_roots(np.random.default_rng(seed).standard_normal((count, width), np.float32))


def brute_force(rows: Matrix, queries: Matrix, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """All pairs in float64; equal similarities in the order of the rows."""
    found = (queries[:, np.newaxis].astype(np.float64) * rows[np.newaxis].astype(np.float64)).sum(axis=2)
    order = np.argsort(-found, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(found, order, axis=1)


@pytest.mark.parametrize("count", [1, 7, 63, 64, 65, 500, 1000])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_the_result_is_that_of_all_pairs_in_float64(count: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_SIMILARITIES", 7 * count)  # several blocks
    monkeypatch.setattr(neighbours, "_ROWS", 16)
    rows, queries = unit_rows(count), unit_rows(30, seed=1)
    indices, similarities = nearest(rows, queries, k)
    wanted, values = brute_force(rows, queries, k)
    there = min(k, count)
    assert indices[:, :there].tolist() == wanted.tolist()
    assert similarities[:, :there] == pytest.approx(values, abs=1e-15)
    assert (indices[:, there:] == -1).all()
    assert np.isnan(similarities[:, there:]).all()


def test_rows_that_differ_by_less_than_float32_can_tell_are_told_apart() -> None:
    """The similarities of these rows are equal in float32, and in float64 they are not."""
    rows = np.repeat(unit_rows(1, 1280), 300, axis=0)
    rows[np.arange(300), np.random.default_rng(2).permutation(1280)[:300]] *= np.float32(1 - 1e-6)
    queries = np.concatenate([rows[:1], unit_rows(3, 1280, seed=3)])
    indices, _ = nearest(rows, queries, 10)
    assert indices.tolist() == brute_force(rows, queries, 10)[0].tolist()


def test_equal_rows_are_in_their_order_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = unit_rows(400)
    for copy in (399, 250, 77):
        rows[copy] = rows[5]
    alone = nearest(rows, rows[5:6], 6)
    assert alone[0][0, :4].tolist() == [5, 77, 250, 399]
    assert len(set(alone[1][0, :4].tolist())) == 1
    assert alone[1][0, 0] == pytest.approx(1, abs=1e-6)
    for size in (400, 2000, 10**6):
        monkeypatch.setattr(neighbours, "_SIMILARITIES", size)
        indices, similarities = nearest(rows, rows, 6)
        assert indices[[5, 77, 250, 399]].tolist() == [alone[0][0].tolist()] * 4
        assert similarities[5].tolist() == alone[1][0].tolist()


def test_a_photo_is_near_neither_itself_nor_its_copies() -> None:
    rows = unit_rows(200)
    rows[150] = rows[3]
    digests = [f"{i:064x}" for i in range(200)]
    digests[150] = digests[3]
    indices, similarities = nearest(rows, rows, 3, (digests, digests))
    assert not {3, 150} & set(indices[3].tolist())
    assert all(i not in found for i, found in enumerate(indices.tolist()))
    others = [i for i in range(200) if i not in (3, 150)]
    wanted, values = brute_force(rows[others], rows[3:4], 3)
    assert indices[3].tolist() == [others[i] for i in wanted[0]]
    assert similarities[3] == pytest.approx(values[0])


def test_where_all_others_are_copies_nothing_is_near() -> None:
    rows = np.repeat(unit_rows(1), 100, axis=0)
    digests = ["a"] * 99 + ["b"]
    indices, similarities = nearest(rows, rows[:1], 2, (digests, ["a"]))
    assert indices.tolist() == [[99, -1]]
    assert np.isnan(similarities[0, 1])
    assert nearest(rows[:0], rows[:2], 2)[0].tolist() == [[-1, -1], [-1, -1]]
    assert nearest(rows, rows[:0], 2)[0].shape == (0, 2)


def test_what_cannot_be_compared_is_refused() -> None:
    rows = unit_rows(10)
    with pytest.raises(ValueError, match="nearest of rows"):
        nearest(rows, rows[:, :5], 1)
    with pytest.raises(ValueError, match="the 0 nearest"):
        nearest(rows, rows, 0)
    with pytest.raises(ValueError, match="not finite"):
        nearest(rows, rows * np.float32(np.nan), 1)
    for place in (0, 990):
        many = unit_rows(1000)
        many[place, 3] = np.nan
        with pytest.raises(ValueError, match="not finite"):
            nearest(many, rows, 5)


def test_photos_are_compared_by_the_last_stage_of_each_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_ROWS", 4)
    x = np.random.default_rng(4).standard_normal((10, 14), np.float32)
    one = last_stage(x[:, :9], [(2, 3, 4)])
    assert one == pytest.approx(unit_roots(x[:, 5:9]))
    two = last_stage(x, [(2, 3, 4), (5,)])
    assert np.linalg.norm(two, axis=1) == pytest.approx(np.ones(10))
    other = unit_roots(x[:, 9:])
    assert two @ two.T == pytest.approx((one @ one.T + other @ other.T) / 2, abs=1e-6)
    with pytest.raises(ValueError, match="14 features; wanted 9"):
        last_stage(x, [(2, 3, 4)])


def test_a_photo_without_features_is_near_nothing() -> None:
    rows = last_stage(np.zeros((2, 3), np.float32), [(3,)])
    assert nearest(rows, rows, 1)[1].tolist() == [[0], [0]]
