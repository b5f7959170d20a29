"""Photos of a run keep their side or fold, and new ones bring the sides near their shares again."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft import Dataset, ImageRecord, split
from regraft.photos.sources.base import SIDES, Side
from regraft.photos.splitting import Split
from regraft.training.folding import NEVER, fold_photos
from regraft.training.keeping import extend_folds, extend_split


def photo(number: int, label: str, group: str | None = None, side: Side | None = None) -> ImageRecord:
    return ImageRecord(Path(f"{number}.jpg"), label, f"{number:064x}", side, group)


def dataset(records: list[ImageRecord]) -> Dataset:
    return Dataset(tuple(records), tuple(sorted({record.label for record in records})))


def places(data: Dataset, sides: Split) -> dict[str, Side]:
    return {data.records[i].identity: side for side in SIDES for i in getattr(sides, side)}


RECORDS = st.lists(
    st.tuples(st.integers(0, 200), st.sampled_from("abc"), st.sampled_from([None, None, None, "g", "h"])),
    min_size=12,
    max_size=40,
    unique_by=lambda row: row[0],
)


@given(rows=RECORDS, share=st.floats(0.2, 1.0), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_known_photos_keep_their_side(rows: list[tuple[int, str, str | None]], share: float, seed: int) -> None:
    everything = [photo(*row) for row in rows]
    old = dataset(everything[: max(6, round(share * len(everything)))])
    known = places(old, split(old, (0.15, 0.2)))
    changed = [
        photo(i, random.Random(seed + i).choice("abcd") if i % 5 == 0 else label, group) for i, label, group in rows
    ]
    new = dataset(changed)
    found = extend_split(new, (0.15, 0.2), known=known)
    at = places(new, found)
    assert sorted(i for side in SIDES for i in getattr(found, side)) == list(range(len(new.records)))
    trained = {new.records[i].label for i in found.train}
    assert trained == set(new.classes)  # every class has a photo to train on
    moved = {name for name, side in known.items() if at[name] != side}
    assert all(at[name] == "train" for name in moved)
    assert len(moved) <= len(new.classes) * max(Counter(record.group for record in new.records).values())


def test_sides_come_near_their_shares_again() -> None:
    old = dataset([photo(i, "ab"[i % 2]) for i in range(100)])
    known = places(old, split(old, (0.1, 0.1)))
    new = dataset([*old.records, *(photo(1000 + i, "ab"[i % 2]) for i in range(100))])
    found = extend_split(new, (0.1, 0.1), known=known)
    assert {side: len(getattr(found, side)) for side in SIDES} == {"train": 160, "val": 20, "test": 20}
    assert all(places(new, found)[name] == side for name, side in known.items())
    for side in ("val", "test"):
        assert Counter(new.records[i].label for i in getattr(found, side)) == {"a": 10, "b": 10}


def test_nothing_new_changes_nothing_and_nothing_known_is_the_usual_split() -> None:
    data = dataset([photo(i, "abc"[i % 3], "g" if i % 7 == 0 else None) for i in range(60)])
    usual = split(data, (0.1, 0.2), "x")
    assert extend_split(data, (0.1, 0.2), "x") == usual
    assert extend_split(data, (0.1, 0.2), "x", known=places(data, usual)) == usual
    folds = fold_photos(data, 5, "x")
    known = {record.identity: int(number) for record, number in zip(data.records, folds, strict=True)}
    np.testing.assert_array_equal(extend_folds(data, 5, "x"), folds)
    np.testing.assert_array_equal(extend_folds(data, 5, "x", known=known), folds)


def test_a_copy_goes_to_the_side_and_the_fold_of_the_photo_that_is_known() -> None:
    old = dataset([photo(i, "ab"[i % 2]) for i in range(40)])
    known = places(old, split(old, (0.2, 0.2)))
    copies = [photo(1000 + i, "ab"[i % 2]) for i in range(40)]
    new = dataset([*old.records, *copies])
    together = [[i, 40 + i] for i in range(40)]
    at = places(new, extend_split(new, (0.2, 0.2), together=together, known=known))
    assert all(at[copies[i].identity] == known[old.records[i].identity] for i in range(40))
    folds = {record.identity: int(n) for record, n in zip(old.records, fold_photos(old, 4), strict=True)}
    found = extend_folds(new, 4, together=together, known=folds)
    np.testing.assert_array_equal(found[40:], found[:40])
    np.testing.assert_array_equal(found[:40], list(folds.values()))


def test_a_photo_that_joins_train_and_test_is_trained_on() -> None:
    data = dataset([photo(i, "ab"[i % 2]) for i in range(20)])
    known: dict[str, Side] = {record.identity: "train" for record in data.records[2:19]}
    known |= {data.records[0].identity: "test", data.records[1].identity: "val"}
    found = extend_split(data, (0.1, 0.1), together=[[0, 2, 19]], known=known)
    assert 0 in found.test
    assert 19 in found.train


def test_a_class_of_one_test_photo_is_trained_on() -> None:
    data = dataset([photo(0, "new"), *(photo(i, "ab"[i % 2]) for i in range(1, 30))])
    known: dict[str, Side] = {r.identity: "test" if i < 5 else "train" for i, r in enumerate(data.records)}
    found = extend_split(data, (0.1, 0.1), known=known)
    assert 0 in found.train
    assert set(found.test) >= {1, 2, 3, 4}


def test_sides_that_the_photos_have_come_first() -> None:
    data = dataset([photo(i, "ab"[i % 2], side="test" if i < 4 else "train") for i in range(30)])
    known: dict[str, Side] = {record.identity: "train" for record in data.records}
    assert extend_split(data, (0.1, 0.1), known=known) == split(data, (0.1, 0.1))


@given(rows=RECORDS, share=st.floats(0.2, 1.0), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_known_photos_keep_their_fold(rows: list[tuple[int, str, str | None]], share: float, seed: int) -> None:
    everything = [photo(*row) for row in rows]
    old = dataset(everything[: max(6, round(share * len(everything)))])
    known = {r.identity: int(n) for r, n in zip(old.records, fold_photos(old, 4), strict=True)}
    new = dataset(
        [photo(i, random.Random(seed + i).choice("abcd") if i % 5 == 0 else label, group) for i, label, group in rows]
    )
    found = extend_folds(new, 4, known=known)
    at = {record.identity: int(number) for record, number in zip(new.records, found, strict=True)}
    moved = [name for name, number in known.items() if at[name] not in (number, NEVER) and number != NEVER]
    assert len(moved) <= len(new.classes) * max(Counter(record.group for record in new.records).values())
    for label in new.classes:  # a head that answers photos of a class has seen others of it
        used = {int(found[i]) for i, r in enumerate(new.records) if r.label == label and found[i] != NEVER}
        assert len(used) != 1 or any(found[i] == NEVER for i, r in enumerate(new.records) if r.label == label)
    for group in "gh":
        inside = {at[r.identity] for r in new.records if r.group == group and r.identity not in known}
        assert len(inside) <= 1


@pytest.mark.parametrize("number", [4, 7, -5])
def test_a_fold_that_there_is_not_counts_as_none(number: int) -> None:
    data = dataset([photo(i, "ab"[i % 2]) for i in range(20)])
    known = {record.identity: number for record in data.records[:5]}
    np.testing.assert_array_equal(extend_folds(data, 4, known=known), fold_photos(data, 4))
