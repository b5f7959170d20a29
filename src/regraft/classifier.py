"""Transform + backbone + head + classes: the whole thing, and the folder it lives in.

In: what `train` learned, or a run folder. Out: probabilities for photos.
Why: a head without its preprocessing, class order and backbone version is a source of wrong answers.
Surprise: ``manifest.json`` is written last, and the folder appears at once; a run without it is none.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from regraft import _console
from regraft._documents import mended
from regraft._places import expanded
from regraft.accelerator import AnyEngine, load_engine
from regraft.backbones import Backbone, load_backbone
from regraft.calibration import Answers, Calibration
from regraft.config import TrainConfig
from regraft.dataset import Dataset, ImageRecord
from regraft.errors import ImageError, RunError, explain
from regraft.features import Loader, compute, extract
from regraft.heads import Head
from regraft.images import Pixels, Problem, Transform, read
from regraft.run_folder import LAYOUT, SCHEMA, Manifest, Run, Sides, read_run, read_split, write_run
from regraft.sources import SIDES, Entry
from regraft.splitting import Split

MANY = 8
"""From so many photos on, the engine is compiled for throughput."""

Photo = ImageRecord | Entry | str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]
"""A dataset's record, what a source lists, a path, a file's bytes, a Pillow image, or RGB pixels (H, W, 3)."""


@dataclass(frozen=True)
class Classifier:
    """A trained classifier; a `Predictor`.

    Attributes:
        backbone: what computes the features.
        head: what turns them into logits.
        classes: the labels, in the order of the probabilities.
        config: the options it was trained with.
        metrics: what `train` measured and counted, as in ``metrics.json``.
        path: its run folder, where it has one.
        int8: the backbone's quantised graph, where it is computed in int8.
        source: the photos it was trained on: a whole path, or whatever else `Dataset.open` takes.
        calibration: what stands between the head's logits and answers.
    """

    backbone: Backbone
    head: Head
    classes: tuple[str, ...]
    config: TrainConfig
    metrics: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    int8: Path | None = None
    source: str = ""
    calibration: Calibration = field(default_factory=Calibration)

    @property
    def temperature(self) -> float:
        """What logits are divided by."""
        return self.calibration.temperature

    @property
    def threshold(self) -> float | None:
        """The novelty above which the answer is none of these; None for never."""
        return self.calibration.threshold

    @cached_property
    def _engines(self) -> tuple[AnyEngine, AnyEngine]:
        few, many = (load_engine(self.backbone, self.config, many, self.int8) for many in (False, True))
        return few, many

    def predict_proba(
        self, images: Sequence[Photo], on_problem: Callable[[Problem], None] | None = None
    ) -> NDArray[np.float32]:
        """Class probabilities.

        Args:
            images: the photos. Features of `ImageRecord` s are taken from the cache and added to it; of others,
                computed and forgotten.
            on_problem: told of each photo that cannot be read, whose row is then NaN.

        Returns:
            (N, C) float32, each row summing to 1.

        Raises:
            ImageError: a photo cannot be read and there is no ``on_problem``.
        """
        return self.answers(images, on_problem).probabilities

    def answers(self, images: Sequence[Photo], on_problem: Callable[[Problem], None] | None = None) -> Answers:
        """`predict_proba`, and the novelty of each photo: NaN where it cannot be read, or in a run that does not tell.

        Raises:
            ImageError: a photo cannot be read and there is no ``on_problem``.
        """
        x, problems = self.features(images)
        for problem in problems:
            if on_problem is None:
                raise ImageError(f"{problem.path}: {problem.reason}")
            on_problem(problem)
        probabilities = np.full((len(images), len(self.classes)), np.nan, np.float32)
        novelty = np.full(len(images), np.nan, np.float32)
        good = ~np.isnan(x[:, 0])
        probabilities[good], novelty[good] = self._answered(x[good])
        return Answers(probabilities, novelty)

    def _answered(self, x: NDArray[np.float32]) -> Answers:
        """Answer feature rows (N, D). Raises RunError where the answers are no finite numbers."""
        try:
            with np.errstate(all="ignore"):
                found = self.calibration.answers(x, self.head.logits(x))
        except ValueError as error:
            raise RunError(
                f"{self.path or 'the classifier'} has a head that does not take {x.shape[1]} features; train it again"
            ) from error
        told = found if self.calibration.novelty else found[:1]
        if not all(np.isfinite(numbers).all() for numbers in told):  # finite weights can still overflow
            raise RunError(
                f"{self.path or 'the classifier'} answers with what is no number: its head or its calibration is "
                "damaged; train it again"
            )
        return found

    def features(self, images: Sequence[Photo]) -> tuple[NDArray[np.float32], tuple[Problem, ...]]:
        """Feature rows (N, D) of photos, NaN for those that cannot be read, and why not."""
        try:
            return self._features(images)
        except RuntimeError as error:
            if self.int8 is None:
                raise
            raise RunError(f"{self.int8} cannot be run ({_first_line(error)}); train the run again") from error

    def _features(self, images: Sequence[Photo]) -> tuple[NDArray[np.float32], tuple[Problem, ...]]:
        engine = self._engines[len(images) >= MANY]
        if images and all(isinstance(image, ImageRecord) for image in images):
            found = extract([image for image in images if isinstance(image, ImageRecord)], engine)
            return found.x, found.problems
        x = np.full((len(images), self.backbone.num_features), np.nan, np.float32)
        problems: dict[int, Problem] = {}
        with _console.progress("predicting", len(images)) as advance:
            for index, row in compute([loader(image, self.backbone.transform) for image in images], engine):
                if isinstance(row, str):
                    problems[index] = Problem(path_of(images[index], index), row)
                else:
                    x[index] = row
                advance()
        return x, tuple(problems[i] for i in sorted(problems))

    def trained_digests(self) -> frozenset[str]:
        """Return the digests of the photos it was trained on; none where it has no run folder that tells.

        Raises:
            RunError: the run's split is missing or damaged.
        """
        return frozenset(read_split(self.path).train) if self.path else frozenset()

    def save(self, folder: Path, dataset: Dataset, split: Mapping[str, Sequence[int]]) -> None:
        """Write the run into an empty ``folder``; the manifest last.

        Raises:
            RunError: what was learned or measured has a number that is not finite.
        """
        sides = Sides(**{side: tuple(dataset.records[i].digest for i in split[side]) for side in SIDES})
        with mended(RunError):
            manifest = Manifest.of(self._manifest(dataset), "the run cannot be written")
        write_run(folder, Run(manifest, self.config, self.metrics, self.head, self.calibration, self.int8), sides)

    def _manifest(self, dataset: Dataset) -> dict[str, Any]:
        from importlib.metadata import version

        return {
            "schema": SCHEMA,
            "classes": list(self.classes),
            "backbone": {
                "name": self.backbone.name,
                "fingerprint": self.backbone.fingerprint,
                "num_features": self.backbone.num_features,
                "stages": list(self.backbone.stages),
                "licence": self.backbone.licence,
                "options": _options(self.backbone),
                "transform": self.backbone.transform.to_dict(),
            },
            "head": self.config.head,
            "calibration": self.calibration.to_dict(),
            "data": {"digest": dataset.digest, "photos": len(dataset.records), "source": self.source},
            "made_by": {
                "regraft": version("regraft"),
                "python": platform.python_version(),
                "platform": f"{sys.platform}-{platform.machine()}",
                "precision": self._engines[1].precision,
                **{package: version(package) for package in ("numpy", "openvino", "pillow")},
            },
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Classifier:
        """Read a run folder.

        Raises:
            RunError: it is no run, damaged, or written by a newer regraft.
            BackboneError: its backbone is not installed here.
        """
        folder = expanded(path)
        run = read_run(folder)
        record = run.manifest.backbone
        options = dict(record.options)
        if options.get("tuned"):
            options["tuned"] = str((folder / LAYOUT.backbone).resolve())
        try:
            backbone = load_backbone(record.name, record.transform.size, **options)
        except OSError as error:  # the name may be a path
            raise RunError(f"{folder / LAYOUT.manifest}: its backbone cannot be read: {explain(error)}") from error
        if backbone.fingerprint != record.fingerprint:
            damaged = f"{LAYOUT.backbone} in it is damaged, or " if options.get("tuned") else ""
            raise RunError(
                f"{damaged}{folder} was trained on another version of {record.name} than is installed; "
                f"type: pip install regraft=={run.manifest.made_by}, or train it again"
            )
        return cls(
            backbone,
            run.head,
            run.manifest.classes,
            run.config,
            run.metrics,
            folder,
            run.int8,
            run.manifest.source,
            run.calibration,
        )


def open_photos(classifier: Classifier, photos: str | os.PathLike[str] | None = None) -> Dataset:
    """The photos that a run was trained on, or ``photos`` if they are no longer where they were."""
    source = photos or classifier.source
    if not source:
        raise RunError(f"{classifier.path} does not say where its photos are; type --photos FOLDER")
    return Dataset.open(source)


def sides_of(classifier: Classifier, dataset: Dataset) -> Split:
    """On which side of the run's split each photo was; one that the run did not know is on none. Warns of lost ones.

    Raises:
        RunError: the run's split is missing or damaged.
    """
    folder = classifier.path or Path()
    known = read_split(folder)
    place = {digest: side for side in SIDES for digest in getattr(known, side)}
    gone = len(set(place) - {record.digest for record in dataset.records})
    if gone:
        _console.warn(f"{gone} of the {len(place)} photos of {folder} are not there")
    sides = {
        side: tuple(i for i, record in enumerate(dataset.records) if place.get(record.digest) == side) for side in SIDES
    }
    return Split(**sides)


def _options(backbone: Backbone) -> dict[str, str]:
    options = {key: getattr(backbone.options, key) for key in ("stages", "weights", "pixels")}
    return {**options, "tuned": LAYOUT.backbone} if backbone.options.tuned else options


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def loader(photo: Photo, transform: Transform) -> Loader:
    """What makes the pixels (size, size, 3) of a photo, or raises ImageError."""
    if isinstance(photo, Image.Image):
        return lambda: transform.pixels(photo.convert("RGB"))
    if isinstance(photo, np.ndarray):
        return lambda: _pixels_of_array(photo, transform)
    if isinstance(photo, bytes):
        return lambda: transform.load(photo)
    if isinstance(photo, ImageRecord | Entry):
        return lambda: transform.load(read(photo.path, photo.part))
    return lambda: transform.load(read(Path(photo)))


def _pixels_of_array(array: NDArray[np.uint8], transform: Transform) -> Pixels:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ImageError(f"an array of {array.dtype} {array.shape}; wanted RGB pixels, uint8 (H, W, 3)")
    return transform.pixels(Image.fromarray(array))


def path_of(photo: Photo, index: int) -> Path:
    """What to call a photo in a message."""
    if isinstance(photo, ImageRecord | Entry):
        return photo.path
    return Path(photo) if isinstance(photo, str | os.PathLike) else Path(f"<photo {index}>")
