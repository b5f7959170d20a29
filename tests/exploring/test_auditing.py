from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from regraft.config.features import FeatureConfig
from regraft.errors import ConfigError, DataError
from regraft.exploring.auditing import DROPPED, KINDS, WHY, Audit, Suspect, check
from regraft.features.features import Features
from regraft.heads.doubtful_labels import out_of_fold
from regraft.photos.dataset import Dataset
from tests.conftest import SHAPES, Command, draw_folder, draw_photo
from tests.features.test_duplicates import scene

QUICK = FeatureConfig(effort="quick")


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """Ten scenes a class and one of each trouble."""
    root = tmp_path / "messy"
    for number, label in enumerate(("cats", "Cats_", "새")):
        (root / label).mkdir(parents=True)
        for i in range(10):
            scene(100 * number + i).save(root / label / f"{i}.jpg", quality=90)
    (root / "cats" / "broken.jpg").write_bytes((root / "cats" / "1.jpg").read_bytes()[:2000])
    (root / "cats" / "text.jpg").write_text("hello")
    shutil.copy(root / "cats" / "0.jpg", root / "cats" / "0 again.jpg")
    shutil.copy(root / "cats" / "2.jpg", root / "새" / "cat 2.jpg")
    ImageOps.mirror(scene(201)).resize((160, 120)).save(root / "새" / "1 small.jpg", quality=60)
    scene(102).resize((200, 150)).save(root / "새" / "102.png")
    Image.new("RGB", (300, 300), (40, 40, 41)).save(root / "새" / "night.jpg")
    scene(300).resize((40, 30)).save(root / "새" / "icon.jpg")
    scene(301).resize((640, 100)).save(root / "새" / "panorama.jpg")
    return root


def photos_of(audit: Audit, kind: str) -> dict[str, Suspect]:
    found = [f for f in audit.findings if f.kind == kind]
    return {"/".join(s.path.parts[-2:]): s for f in found for s in f.photos}


def test_every_trouble_is_named_and_explained(messy: Path, cache: Path) -> None:
    audit = check(messy, QUICK)
    assert set(photos_of(audit, "unreadable")) == {"cats/broken.jpg", "cats/text.jpg"}
    assert set(photos_of(audit, "exact-duplicate")) == {"cats/0 again.jpg"}
    assert set(photos_of(audit, "two-labels")) == {"cats/2.jpg", "새/cat 2.jpg", "Cats_/2.jpg", "새/102.png"}
    assert set(photos_of(audit, "near-duplicate")) == {"새/1 small.jpg"}
    assert photos_of(audit, "near-duplicate")["새/1 small.jpg"].others == (messy / "새" / "1.jpg",)
    assert set(photos_of(audit, "blank")) == {"새/night.jpg"}
    assert set(photos_of(audit, "tiny")) == {"새/icon.jpg"}
    assert set(photos_of(audit, "extreme-shape")) == {"새/panorama.jpg"}
    by_kind = {f.kind: f for f in audit.findings}
    assert by_kind["class-names"].classes == ("'Cats_' / 'cats'",)
    assert len(by_kind["small-class"].classes) == 3
    assert "imbalance" not in by_kind
    assert [KINDS.index(f.kind) for f in audit.findings] == sorted(KINDS.index(f.kind) for f in audit.findings)
    assert audit.impossible is None
    json.dumps(audit.to_dict())


def test_nothing_under_the_photos_is_touched(messy: Path, regraft: Command) -> None:
    def state() -> list[tuple[str, int, int]]:
        return [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(messy.rglob("*"))]

    before = state()
    regraft("check", messy, "--effort", "quick", "--write", "clean.csv")
    assert state() == before


def test_the_clean_manifest_trains_without_the_offenders_and_warm(
    messy: Path, regraft: Command, tmp_path: Path
) -> None:
    told = json.loads(regraft("check", messy, "--effort", "quick", "--json", "--write", "clean.csv").stdout)
    assert told["trainable"]
    left_out = {s["path"] for f in told["findings"] if f["kind"] in DROPPED for s in f["photos"]}
    assert len(left_out) == 8
    records = Dataset.open(tmp_path / "clean.csv").records
    assert len(records) == told["photos"] - 6  # two of the eight could not be read in the first place
    assert not left_out & {str(r.path.resolve()) for r in records}
    document = json.loads(regraft("train", "clean.csv", "--effort", "quick", "--json").stdout)
    assert document["features"]["computed"] == 0
    assert sum(document["counts"].values()) == len(records)


def test_the_user_chooses_the_kinds(messy: Path, cache: Path, tmp_path: Path) -> None:
    audit = check(messy, QUICK)
    assert audit.write_manifest(tmp_path / "a.csv", ["tiny", "near-duplicate"]) == len(audit.dataset.records) - 2
    with pytest.raises(ConfigError, match="unknown kind 'small'"):
        audit.write_manifest(tmp_path / "b.csv", ["small"])
    with pytest.raises(ConfigError, match="is there already"):
        audit.write_manifest(tmp_path / "a.csv")


def test_copies_across_given_splits_are_found(tmp_path: Path, cache: Path) -> None:
    for side, start in (("train", 0), ("test", 50)):
        for number, label in enumerate(("a", "b")):
            (tmp_path / "p" / side / label).mkdir(parents=True)
            for i in range(12):
                scene(start + 100 * number + i).save(tmp_path / "p" / side / label / f"{i}.jpg", quality=90)
    shutil.copy(tmp_path / "p" / "train" / "a" / "3.jpg", tmp_path / "p" / "test" / "a" / "leak.jpg")
    scene(104).resize((200, 150)).save(tmp_path / "p" / "test" / "b" / "small leak.jpg")
    found = photos_of(check(tmp_path / "p", QUICK), "shared-by-splits")
    assert {name: [o.name for o in s.others] for name, s in found.items()} == {
        "a/3.jpg": ["leak.jpg"],
        "b/4.jpg": ["small leak.jpg"],
    }


def test_one_class_is_impossible_and_exits_with_1(tmp_path: Path, regraft: Command) -> None:
    draw_folder(tmp_path / "p", {"circle": 5})
    done = regraft("check", tmp_path / "p", "--effort", "quick", code=1)
    assert "no classifier can be trained: there is only one class, 'circle'" in done.stdout
    assert done.stderr == ""


def test_no_readable_photo_is_impossible_too(tmp_path: Path, cache: Path) -> None:
    for label in "ab":
        (tmp_path / "p" / label).mkdir(parents=True)
        (tmp_path / "p" / label / "x.jpg").write_bytes(b"\xff\xd8\xff\xe0 half")
    assert check(tmp_path / "p", QUICK).impossible == "no photo can be read"
    with pytest.raises(DataError):
        check(tmp_path / "nowhere", QUICK)


def test_flipped_labels_lead_the_ranking(tmp_path: Path, cache: Path) -> None:
    names = list(SHAPES)
    flipped = set()
    for label in names:
        (tmp_path / "p" / label).mkdir(parents=True)
    for number, label in enumerate(names):
        for i in range(40):
            wrong = i % 20 == 0
            target = names[(number + 1) % 3] if wrong else label
            path = tmp_path / "p" / target / f"{number}-{i}.jpg"
            draw_photo(SHAPES[label], 1000 * number + i).save(path, quality=90)
            flipped |= {path} if wrong else set()
    audit = check(tmp_path / "p", QUICK)
    order = np.argsort(audit.margins)
    worst = {audit.dataset.records[i].path for i in order[:12]}
    assert len(flipped & worst) >= 5
    named = photos_of(audit, "mislabelled")
    assert len(named) >= 3
    assert [s.score for s in named.values()] == sorted(s.score or 0 for s in named.values())
    assert audit.write(tmp_path / "tasks.json", "label-studio") == len(audit.dataset.records)
    tasks = json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))
    scores = [task["predictions"][0]["score"] for task in tasks if "predictions" in task]
    assert sorted(scores) == sorted(s.probability or 0 for s in named.values())
    assert all(0.5 < score <= 1 for score in scores)
    with pytest.raises(ConfigError, match="unknown format 'cvat'"):
        audit.write(tmp_path / "b.json", "cvat")  # type: ignore[arg-type]


def test_no_probability_comes_from_a_head_that_saw_the_photo_or_its_copy() -> None:
    dice = np.random.default_rng(0)
    x = dice.standard_normal((60, 8)).astype(np.float32)
    y = dice.integers(0, 2, 60)
    x[30:], y[30:] = x[:30], 1 - y[:30]  # copies under the other label: whoever saw them would be misled
    features = Features(x, y, ("a", "b"), tuple(f"{random.Random(i).getrandbits(64):016x}" for i in range(60)), "test")
    groups = [[i, i + 30] for i in range(30)]
    p = out_of_fold(features, groups)
    assert np.allclose(p[:30], p[30:], atol=1e-5)
    assert np.isnan(out_of_fold(features.select(range(4)))).all()


def test_every_kind_is_explained() -> None:
    assert set(WHY) == set(KINDS)
    assert set(DROPPED) <= set(KINDS)


def test_flowers_with_flipped_labels(bench_data: Path, tmp_path: Path, cache: Path) -> None:
    """5 % of labels flipped at random: 90 % of them among the worst 10 % of the ranking, 75 % among the worst 5 %."""
    photos = sorted((bench_data / "photos" / "flowers").rglob("*.jpg"))
    labels = sorted({p.parent.name for p in photos})
    dice = random.Random(0)
    flipped = set(dice.sample(photos, len(photos) // 20))
    rows = [
        (p, dice.choice([c for c in labels if c != p.parent.name]) if p in flipped else p.parent.name) for p in photos
    ]
    text = "path,label\n" + "".join(f"{path},{label}\n" for path, label in rows)
    (tmp_path / "m.csv").write_text(text, encoding="utf-8")
    audit = check(tmp_path / "m.csv", QUICK)
    order = [audit.dataset.records[i].path for i in np.argsort(audit.margins, kind="stable")]
    shares = [len(flipped & set(order[: int(share * len(order))])) / len(flipped) for share in (0.05, 0.1)]
    assert shares[0] >= 0.75
    assert shares[1] >= 0.9


def test_cameras_above_the_classes_give_a_hint(tmp_path: Path, regraft: Command) -> None:
    for camera in range(3):
        draw_folder(tmp_path / "p" / f"cam{camera}", {"circle": 2, "Square": 2}, seed=99 * camera)
    told = regraft("check", "p", "--effort", "quick").stdout
    assert "2 names (Square, circle) stand for folders under most of the 3 folders (cam0, cam1, cam2)" in told
    document = json.loads(regraft("check", "p", "--effort", "quick", "--label-from", "last", "--json").stdout)
    assert (document["hint"], document["counts"]) == ("", {"Square": 6, "circle": 6})
