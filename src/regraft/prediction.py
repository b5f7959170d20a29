"""A Predictor × files and folders → the most probable classes of each photo.

In: paths. Out: a `Prediction` for each photo, in the order asked.
Why: whoever has a classifier wants to point it at things.
Surprise: a file that cannot be read is answered too, with its error, and stops nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regraft import _console
from regraft.calibration import is_novel
from regraft.dataset import looks_like_an_image
from regraft.errors import ConfigError, DataError, ImageError
from regraft.evaluation import Predictor, wilson_interval
from regraft.images import Problem
from regraft.sources import Entry, Source, find_source
from regraft.sources.folder import IMAGE_SUFFIXES, Folder

CHUNK = 4096
"""Photos held at once; memory does not grow with the number of files."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One photo's answer.

    Attributes:
        path: the file.
        top: (label, probability) pairs, the most probable first; empty where it cannot be read.
        novel: whether it looks like none of the classes, and so ``top`` is not the answer.
        error: why it cannot be read, or None.
        label: what the source says it is; empty where it says nothing.
    """

    path: Path
    top: tuple[tuple[str, float], ...] = ()
    novel: bool = False
    error: str | None = None
    label: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        if self.error is not None:
            return {"path": str(self.path), "error": self.error}
        top = [{"label": label, "probability": p} for label, p in self.top]
        return {"path": str(self.path), "none_of_these": self.novel, "top": top}


@dataclass(frozen=True, slots=True)
class Rejection:
    """How many photos of none of the classes were told to be that.

    Attributes:
        label: the folder, or whatever else their source calls them.
        n: photos that could be read.
        rejected: the share answered with none of these.
        interval: its 95 % Wilson score interval.
    """

    label: str
    n: int
    rejected: float
    interval: tuple[float, float]


def predict(predictor: Predictor, paths: Sequence[str | os.PathLike[str]], top: int = 1) -> list[Prediction]:
    """Classify files, and all photos under folders.

    Args:
        predictor: a classifier, or an exported file that was loaded.
        paths: files are always answered; of a folder only what looks like an image, hidden files passed over; of
            anything else that `Dataset.open` takes, the photos it lists.
        top: how many classes each answer holds, at least 1.

    Raises:
        ConfigError: ``top`` is below 1.
    """
    if top < 1:
        raise ConfigError(f"--top is {top}; wanted at least 1")
    photos = [photo for path in paths for photo in _photos(os.fspath(path))]
    result: list[Prediction] = []
    for start in range(0, len(photos), CHUNK):
        chunk = photos[start : start + CHUNK]
        problems: dict[Path, str] = {}

        def note(problem: Problem, found: dict[Path, str] = problems) -> None:
            found[problem.path] = problem.reason

        answers = predictor.answers(chunk, on_problem=note)
        novel = is_novel(answers.novelty, predictor.threshold)
        for i, photo in enumerate(chunk):
            path, label = (photo.path, photo.label) if isinstance(photo, Entry) else (photo, photo.parent.name)
            if path in problems:
                result.append(Prediction(path, error=problems[path]))
            else:
                row = answers.probabilities[i]
                best = np.argsort(-row, kind="stable")[:top]
                pairs = tuple((predictor.classes[j], float(row[j])) for j in best)
                result.append(Prediction(path, pairs, bool(novel[i]), label=label))
    return result


def rejections(predictor: Predictor, photos: str | os.PathLike[str]) -> tuple[Rejection, ...]:
    """Show a predictor photos of none of its classes; one row a label or folder, and before them one for all.

    Raises:
        ConfigError: the predictor never answers with none of these.
        DataError: there is no photo.
    """
    if predictor.threshold is None:
        raise ConfigError("this classifier never answers with none of these: it had too few val photos, or --reject 0")
    found: dict[str, list[bool]] = {}
    for prediction in predict(predictor, [photos]):
        if prediction.error is None:
            found.setdefault(prediction.label, []).append(prediction.novel)
    if not found:
        raise DataError(f"no photo was found in {photos}")
    groups = [("all photos", [novel for group in found.values() for novel in group])]
    groups += list(found.items()) if len(found) > 1 else []
    return tuple(
        Rejection(label, len(novel), sum(novel) / len(novel), wilson_interval(sum(novel), len(novel)))
        for label, novel in groups
    )


def _photos(spec: str) -> Iterator[Path | Entry]:
    """A file, all photos in a folder, or those that any other source lists, whatever their labels."""
    source, path = _source_of(spec), Path(spec)
    if source is not None:
        listing = source.list(spec)
        for problem in listing.problems:
            _console.warn(f"left out {problem.path}: {problem.reason}")
        yield from listing.entries
    elif path.is_dir():
        yield from _files(path)
    else:
        yield path


def _source_of(spec: str) -> Source | None:
    """What lists the photos of ``spec``; None for what is a photo, or a folder of photos, itself."""
    try:
        source = find_source(spec)
    except DataError:
        return None
    return None if isinstance(source, Folder) else source


def _files(path: Path) -> Iterator[Path]:
    """What looks like a photo in a folder, or is called like one: of the latter whatever is wrong will be told."""
    found = 0
    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if not hidden and (file.suffix.lower() in IMAGE_SUFFIXES or _is_photo(file)):
            found += 1
            yield file
    if not found:
        _console.warn(f"no photo was found in {path}")


def _is_photo(file: Path) -> bool:
    try:
        if not file.is_file():  # a pipe would keep us waiting
            return False
        with file.open("rb") as opened:
            return looks_like_an_image(opened.read(16))
    except OSError as error:
        raise ImageError(f"{file} cannot be read: {error.strerror}") from error
