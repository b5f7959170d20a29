"""Does `check` find what is planted, and what does it cost?

Flipped labels: 5 % of the labels, at random, three seeds; the share of them in the worst 5 and 10 % of the ranking.
Copies: of 400 photos, each resized, recompressed (JPEG quality 40), mirrored and cut (5 % off each side length); the
share that is grouped with its original, and how many photos are grouped that are no planted copy or its original.
Two labels: 20 copies of each kind filed under another label; the share that is named.
Cost: `check` and `train` on empty caches, in turn, and `check` again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _common import regraft, report
from PIL import Image, ImageOps

from regraft.exploring.auditing import Audit, check
from regraft.photos.dataset import Dataset, ImageRecord


def resized(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def cut(image: Image.Image) -> Image.Image:
    dice = random.Random(image.width * image.height)
    dx, dy = image.width * 0.05, image.height * 0.05
    left, top = dice.random() * dx, dice.random() * dy
    return image.crop((int(left), int(top), int(left + image.width - dx), int(top + image.height - dy)))


KINDS: dict[str, tuple[Callable[[Image.Image], Image.Image], int]] = {
    "resized": (resized, 90),
    "JPEG quality 40": (lambda image: image, 40),
    "mirrored": (ImageOps.mirror, 90),
    "cut by 5 %": (cut, 90),
}


def manifest(path: Path, rows: Sequence[tuple[Path, str]]) -> Path:
    lines = [json.dumps({"path": str(photo), "label": label}) for photo, label in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def flipped_labels(records: Sequence[ImageRecord], folder: Path, seed: int) -> dict[str, float]:
    dice = random.Random(seed)
    labels = sorted({r.label for r in records})
    flipped = {records[i].path for i in dice.sample(range(len(records)), len(records) // 20)}
    wrong = {r.path: dice.choice([c for c in labels if c != r.label]) for r in records if r.path in flipped}
    rows = [(r.path, wrong.get(r.path, r.label)) for r in records]
    audit = check(manifest(folder / f"flipped{seed}.jsonl", rows))
    order = [audit.dataset.records[i].path for i in np.argsort(audit.margins, kind="stable")]
    named = {s.path for f in audit.findings if f.kind == "mislabelled" for s in f.photos}
    return {
        "in worst 5 %": len(flipped & set(order[: len(order) // 20])) / len(flipped),
        "in worst 10 %": len(flipped & set(order[: len(order) // 10])) / len(flipped),
        "named": len(named),
        "named and flipped": len(named & flipped),
    }


def grouped(audit: Audit) -> dict[Path, set[Path]]:
    """For each photo that was found to have copies, it and all of them."""
    found: dict[Path, set[Path]] = {}
    for finding in audit.findings:
        if finding.kind in ("near-duplicate", "exact-duplicate", "two-labels"):
            for suspect in finding.photos:
                paths = (suspect.path, *suspect.others)
                group = set().union(*(found.get(path, {path}) for path in paths))
                found.update(dict.fromkeys(group, group))
    return found


def copies(records: Sequence[ImageRecord], folder: Path) -> dict[str, Any]:
    originals = chosen(records)
    shares: dict[str, float] = {}
    others: list[int] = []
    for kind, (change, quality) in KINDS.items():
        rows = [(r.path, r.label) for r in records]
        planted: dict[Path, Path] = {}
        for number, record in enumerate(originals):
            copy = folder / kind.replace(" ", "") / f"{number}.jpg"
            copy.parent.mkdir(exist_ok=True)
            with Image.open(record.path) as image:
                change(image.convert("RGB")).save(copy, quality=quality)
            planted[copy] = record.path
            rows.append((copy, record.label))
        found = grouped(check(manifest(folder / f"{copy.parent.name}.jsonl", rows)))
        shares[kind] = sum(original in found.get(copy, ()) for copy, original in planted.items()) / len(planted)
        expected = {*planted, *planted.values()}
        others.append(sum(photo not in expected for photo in found))
    alone = grouped(check(manifest(folder / "alone.jsonl", [(r.path, r.label) for r in records])))
    return {
        "grouped with their original": shares,
        "other photos grouped": others,
        "grouped before anything was planted": len(alone),
        "share of all": len(alone) / len(records),
    }


def two_labels(records: Sequence[ImageRecord], folder: Path) -> dict[str, Any]:
    labels = sorted({r.label for r in records})
    rows = [(r.path, r.label) for r in records]
    planted = []
    for number, (record, kind) in enumerate(zip(chosen(records)[:80], 20 * list(KINDS), strict=True)):
        planted.append(folder / kind.replace(" ", "") / f"{number}.jpg")  # made by `copies`
        rows.append((planted[-1], next(c for c in labels if c != record.label)))
    audit = check(manifest(folder / "two.jsonl", rows))
    named = {s.path for f in audit.findings if f.kind == "two-labels" for s in f.photos}
    before = check(manifest(folder / "alone.jsonl", [(r.path, r.label) for r in records]))
    return {
        "planted": len(planted),
        "named": len(named & set(planted)),
        "in the photos as they are": sum(len(f.photos) for f in before.findings if f.kind == "two-labels"),
    }


def chosen(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    return [records[i] for i in random.Random(0).sample(range(len(records)), 400)]


def cost(photos: Path, folder: Path, repeats: int) -> dict[str, Any]:
    pairs = []
    for number in range(repeats):
        trained = regraft("train", photos, "--json", cache=folder / f"t{number}", cwd=folder).seconds
        checked = regraft("check", photos, "--json", cache=folder / f"c{number}", cwd=folder).seconds
        warm = [regraft("check", photos, "--json", cache=folder / f"c{number}", cwd=folder).seconds for _ in range(2)]
        pairs.append({"train": trained, "check": checked, "ratio": checked / trained, "warm": min(warm)})
    rounded = [{k: round(v, 2) for k, v in pair.items()} for pair in pairs]
    return {
        "ratio of cold check to cold train": round(statistics.median(p["ratio"] for p in pairs), 2),
        "warm check": round(statistics.median(p["warm"] for p in pairs), 2),
        "runs": rounded,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    photos = options.photos.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["REGRAFT_CACHE"] = str(folder / "cache")
        expense = cost(photos, folder, options.repeats)
        records = Dataset.open(photos).records
        report(
            photos=len(records),
            cost=expense,
            flipped=[flipped_labels(records, folder, seed) for seed in range(3)],
            copies=copies(records, folder),
            two_labels=two_labels(records, folder),
        )


if __name__ == "__main__":
    main()
