from __future__ import annotations

import hashlib
import shutil
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.dataset import Dataset, ImageRecord
from regraft.errors import ConfigError
from regraft.sources import SIDES, Side
from regraft.splitting import Split, split


def record(label: str, number: int, name: str | None = None) -> ImageRecord:
    digest = hashlib.sha256(f"{label}{number}".encode()).hexdigest()
    return ImageRecord(Path("photos", label, name or f"{number}.jpg"), label, digest)


def dataset(records: list[ImageRecord]) -> Dataset:
    return Dataset(tuple(records), tuple(sorted({r.label for r in records})))


def sides(data: Dataset, parts: Split) -> dict[ImageRecord, str]:
    return {data.records[i]: side for side in SIDES for i in getattr(parts, side)}


counts = st.dictionaries(st.sampled_from(["a", "b", "강", "d e"]), st.integers(1, 60), min_size=1)


@settings(max_examples=60, deadline=None)
@given(counts, st.text(max_size=3))
def test_every_photo_has_one_side_and_every_class_of_three_has_all(sizes: dict[str, int], salt: str) -> None:
    data = dataset([record(label, i) for label, n in sizes.items() for i in range(n)])
    parts = split(data, salt=salt)
    assert sorted((*parts.train, *parts.val, *parts.test)) == list(range(len(data.records)))
    for label, n in sizes.items():
        there = {side for r, side in sides(data, parts).items() if r.label == label}
        assert there == {1: {"train"}, 2: {"train", "test"}}.get(n, set(SIDES))


@settings(max_examples=40, deadline=None)
@given(counts, st.integers(60, 90), st.text(max_size=3))
def test_adding_photos_moves_none_but_those_the_floor_had_moved(sizes: dict[str, int], more: int, salt: str) -> None:
    small = dataset([record(label, i) for label, n in sizes.items() for i in range(n)])
    grown = dataset([record(label, i) for label in sizes for i in range(more)])
    before, after = sides(small, split(small, salt=salt)), sides(grown, split(grown, salt=salt))
    moved: dict[str, list[ImageRecord]] = defaultdict(list)
    for r, side in before.items():
        if after[r] != side:
            moved[r.label].append(r)
    # At most one photo for each of the sides that the floor had to fill.
    assert all(len(records) <= 2 for records in moved.values())


def test_a_grown_set_of_ordinary_size_moves_nothing() -> None:
    small = dataset([record(c, i) for c in "ab" for i in range(200)])
    grown = dataset([record(c, i) for c in "abc" for i in range(300)])
    before, after = sides(small, split(small)), sides(grown, split(grown))
    assert all(after[r] == side for r, side in before.items())


def test_shares_are_about_right_and_the_salt_draws_anew() -> None:
    data = dataset([record(c, i) for c in "ab" for i in range(2000)])
    parts = split(data, (0.1, 0.2))
    assert abs(len(parts.val) / 4000 - 0.1) < 0.02
    assert abs(len(parts.test) / 4000 - 0.2) < 0.02
    other = split(data, (0.1, 0.2), salt="2")
    assert len(set(parts.test) & set(other.test)) < 0.3 * len(parts.test)


def test_moving_and_renaming_photos_moves_no_side(photos: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(photos, tmp_path / "deep" / "elsewhere")
    for path in moved.rglob("*.jpg"):
        path.rename(path.with_name(path.stem[::-1] + "x.jpg"))
    first, second = Dataset.open(photos), Dataset.open(moved)
    one, two = split(first), split(second)
    for side in SIDES:
        a = [first.records[i].digest for i in getattr(one, side)]
        b = [second.records[i].digest for i in getattr(two, side)]
        assert a == b  # the order too, so that the classifier is the same to the bit


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_byte_equal_photos_stay_together_under_any_label(seed: int) -> None:
    records = [record("a", i) for i in range(20)] + [record("b", i) for i in range(20)]
    twin = records[seed % 20]
    records += [ImageRecord(Path("photos/b/twin.jpg"), "b", twin.digest), ImageRecord(Path("x.jpg"), "a", twin.digest)]
    data = dataset(records)
    found = {side for r, side in sides(data, split(data, salt=str(seed))).items() if r.digest == twin.digest}
    assert len(found) == 1


def test_nohash_variants_stay_together_as_more_join() -> None:
    def data(variants: int) -> Dataset:
        return dataset(
            [record("a", 10 * v + n, f"dog{n}_nohash_{v}.jpg") for n in range(10) for v in range(variants)]
            + [record("b", i) for i in range(30)]
        )

    def side_of(variants: int) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        whole = data(variants)
        for r, side in sides(whole, split(whole)).items():
            if r.label == "a":
                found[r.path.name.partition("_nohash_")[0]].add(side)
        return found

    assert all(len(s) == 1 for s in side_of(5).values())
    assert side_of(2) == side_of(5)
    assert {s for group in side_of(5).values() for s in group} == set(SIDES)


def test_given_sides_are_kept_and_leaks_are_told(caplog: pytest.LogCaptureFixture) -> None:
    from dataclasses import replace

    given: list[Side] = ["train"] * 8
    given += ["test"] * 2
    records = [replace(record("a", i), split=s) for i, s in enumerate(given)]
    records += [replace(record("b", i), split=s) for i, s in enumerate(given)]
    records.append(replace(records[0], path=Path("leak.jpg"), split="test"))
    data = dataset(records)
    found = sides(data, split(data))
    assert all(side == "test" for r, side in found.items() if r.split == "test")
    assert {side for r, side in found.items() if r.split == "train"} == {"train", "val"}
    assert "1 photos of test are also in train" in caplog.text


def test_a_share_of_nought_leaves_its_side_empty() -> None:
    data = dataset([record(c, i) for c in "ab" for i in range(30)])
    assert split(data, (0.2, 0.0)).test == ()
    assert split(data, (0.0, 0.0)).val == ()
    with pytest.raises(ConfigError):
        split(data, (0.5, 0.5))


def test_what_looks_alike_stays_together_also_across_classes() -> None:
    data = dataset([record(c, i) for c in "ab" for i in range(100)])
    together = [[i, 100 + i, 199 - i] for i in range(0, 40, 2)]
    parts = split(data, (0.2, 0.2), together=together)
    side_of = {i: side for side in SIDES for i in getattr(parts, side)}
    assert all(len({side_of[i] for i in group}) == 1 for group in together)
    assert set(side_of.values()) == set(SIDES)
    assert split(data, (0.2, 0.2)) != parts


def test_copies_across_given_sides_are_told_and_val_is_drawn_without_them(caplog: pytest.LogCaptureFixture) -> None:
    from dataclasses import replace

    given: list[Side] = ["train"] * 30
    given += ["test"] * 10
    data = dataset([replace(record(c, i), split=s) for c in "ab" for i, s in enumerate(given)])
    together = [[0, 1, 2, 35], [5, 6, 7]]
    parts = split(data, (0.3, 0.1), together=together)
    assert "1 photos of test are also in train" in caplog.text
    found = {i: side for side in SIDES for i in getattr(parts, side)}
    assert len({found[i] for i in (0, 1, 2)}) == 1
    assert len({found[i] for i in (5, 6, 7)}) == 1
    assert len(parts.test) == 20
