"""What the peers of ``peers.py`` share: the photos of a fold, and the table of answers.

Nothing of regraft is imported here: a peer runs in an environment of its own.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Photo(NamedTuple):
    """A photo of a fold: its path and its label."""

    path: str
    label: str


class Fold(NamedTuple):
    """The photos of a fold by side, and its classes in alphabetical order."""

    train: list[Photo]
    val: list[Photo]
    test: list[Photo]
    classes: list[str]


def read_fold(manifest: str) -> Fold:
    """Return the photos of a manifest with the columns path, label and split."""
    with Path(manifest).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    sides = {
        side: [Photo(row["path"], row["label"]) for row in rows if row["split"] == side]
        for side in ("train", "val", "test")
    }
    return Fold(**sides, classes=sorted({row["label"] for row in rows}))


def write_answers(table: str, photos: Iterable[Photo], labels: Iterable[str]) -> None:
    """Write the label that was predicted for each photo, as a table with the columns path and label."""
    with Path(table).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label"))
        writer.writerows((photo.path, label) for photo, label in zip(photos, labels, strict=True))


def arguments() -> list[str]:
    """Return the arguments of a peer: the manifest of the fold, the table to write, the file of weights, the seed."""
    return sys.argv[1:]
