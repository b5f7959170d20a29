"""Transform + backbone + head + classes: the whole thing, and the folder it lives in.

In: what `train` learned, or a run folder. Out: probabilities for photos.
Why: a head without its preprocessing, class order and backbone version is a source of wrong answers.
Surprise: ``manifest.json`` is written last, and the folder appears at once; a run without it is none.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft import _console
from regraft._documents import mended
from regraft._files import as_path
from regraft.accelerator import AnyEngine, load_engine
from regraft.backbones import Backbone, load_backbone
from regraft.calibration import Answers, Calibration
from regraft.computing import compute
from regraft.config import TrainConfig
from regraft.dataset import Dataset, ImageRecord, takes_levels
from regraft.engine import Engine
from regraft.errors import DataError, ImageError, RunError, explain
from regraft.features import extract
from regraft.heads import Head
from regraft.images import Problem
from regraft.run_folder import LAYOUT, SCHEMA, Manifest, Run, Sides, read_run, read_split, write_run
from regraft.sources import SIDES
from regraft.splitting import Split
from regraft.unlabelled import Found, Photo, loader, path_of, photos_in

MANY = 8
"""From so many photos on, the engine is compiled for throughput."""


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
        precision: what its training photos were computed in, so that others are too: ``bf16`` or ``f32``; empty for
            the fastest of this processor.
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
    precision: str = ""

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
        few, many = (load_engine(self.backbone, self.config, many, self.int8, self.precision) for many in (False, True))
        return few, many

    def predict_proba(
        self, images: Photo | Iterable[Photo], on_problem: Callable[[Problem], None] | None = None
    ) -> NDArray[np.float32]:
        """Class probabilities.

        Args:
            images: the photos, as `photos_in` takes them: one or several, a folder, a data set. Features of
                `ImageRecord` s are taken from the cache and added to it; of others, computed and forgotten.
            on_problem: told of each photo that cannot be read, whose row is then NaN.

        Returns:
            (N, C) float32, each row summing to 1.

        Raises:
            DataError: ``images`` are no photos.
            ImageError: a photo cannot be read and there is no ``on_problem``.
        """
        return self.answers(images, on_problem).probabilities

    def answers(self, images: Photo | Iterable[Photo], on_problem: Callable[[Problem], None] | None = None) -> Answers:
        """`predict_proba`, and the novelty of each photo: NaN where it cannot be read, or in a run that does not tell.

        Raises:
            ImageError: a photo cannot be read and there is no ``on_problem``.
        """
        photos = list(photos_in(images))
        x, problems = self._features(photos)
        for problem in problems:
            if on_problem is None:
                raise ImageError(f"{problem.path}: {problem.reason}")
            on_problem(problem)
        probabilities = np.full((len(photos), len(self.classes)), np.nan, np.float32)
        novelty = np.full(len(photos), np.nan, np.float32)
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

    def features(self, images: Photo | Iterable[Photo]) -> tuple[NDArray[np.float32], tuple[Problem, ...]]:
        """Feature rows (N, D) of photos, NaN for those that cannot be read, and why not."""
        return self._features(list(photos_in(images)))

    def _features(self, photos: Sequence[Found]) -> tuple[NDArray[np.float32], tuple[Problem, ...]]:
        try:
            return self._computed(photos)
        except RuntimeError as error:
            if self.int8 is None:
                raise
            raise RunError(f"{self.int8} cannot be run ({_first_line(error)}); train the run again") from error

    def _computed(self, photos: Sequence[Found]) -> tuple[NDArray[np.float32], tuple[Problem, ...]]:
        engine = self._engines[len(photos) >= MANY]
        if photos and all(isinstance(photo, ImageRecord) for photo in photos):
            found = extract([photo for photo in photos if isinstance(photo, ImageRecord)], engine)
            return found.x, found.problems
        x = np.full((len(photos), self.backbone.num_features), np.nan, np.float32)
        problems: dict[int, Problem] = {}
        for index, row in compute([loader(photo, self.backbone.transform) for photo in photos], engine):
            if isinstance(row, str):
                problems[index] = Problem(path_of(photos[index], index), row)
            else:
                x[index] = row
        return x, tuple(problems[i] for i in sorted(problems))

    def trained_digests(self) -> frozenset[str]:
        """Return the identities of the photos it was trained on; none where it has no run folder that tells.

        Raises:
            RunError: the run's split is missing or damaged.
        """
        return frozenset(read_split(self.path).train) if self.path else frozenset()

    def save(self, folder: Path, dataset: Dataset, split: Mapping[str, Sequence[int]]) -> None:
        """Write the run into an empty ``folder``; the manifest last.

        Raises:
            RunError: what was learned or measured has a number that is not finite.
        """
        sides = Sides(**{side: tuple(dataset.records[i].identity for i in split[side]) for side in SIDES})
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
                **_computed_in(self._engines[1]),
                **{package: version(package) for package in ("numpy", "openvino", "pillow")},
            },
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Classifier:
        """Read a run folder.

        Raises:
            ConfigError: ``path`` is no path.
            RunError: it is no run, damaged, or written by a newer regraft.
            BackboneError: its backbone is not installed here.
        """
        folder = as_path(path, "the run")
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
            _trained_in(run.manifest.document),
        )


def _computed_in(engine: AnyEngine) -> dict[str, str]:
    """The precision of an engine, and the limit of the processor's instructions where it needs one."""
    isa = engine.choice.isa if isinstance(engine, Engine) and engine.choice.precision == "bf16" else ""
    return {"precision": engine.precision, **({"onednn_isa": isa} if isa else {})}


def _trained_in(manifest: Mapping[str, Any]) -> str:
    """The precision that a run's manifest tells, ``bf16`` or ``f32``; empty for any other, and where it tells none."""
    told = manifest.get("made_by", {}).get("precision", "")
    return told if told in ("bf16", "f32") else ""


def run_path(run: Any) -> Path:
    """Return the folder of a run: the path that ``run`` is, or that of a classifier.

    Raises:
        ConfigError: it is neither.
        RunError: the classifier has no run folder.
    """
    if isinstance(run, Classifier):
        if run.path is None:
            raise RunError("the classifier has no run folder; save it, or train it with out=FOLDER")
        return run.path
    return as_path(run, "the run")


def open_photos(classifier: Classifier, photos: str | os.PathLike[str] | None = None) -> Dataset:
    """The photos that a run was trained on, or ``photos`` if they are no longer where they were. Warns of lost ones.

    Raises:
        DataError: none of them is there.
        RunError: the run does not say where they were.
    """
    source = os.fspath(photos or classifier.source)
    if not source:
        raise RunError(f"{classifier.path} does not say where its photos are; type --photos FOLDER")
    known = {digest for digests in _split_of(classifier).values() for digest in digests}
    if not photos and Path(source).is_absolute() and not Path(source).exists():
        told = f"the {len(known)} photos of {classifier.path} were in {source}, which is not there any more"
        raise DataError(f"{told}; type --photos FOLDER")
    named = takes_levels(source)  # the photos may be in a table by now
    levels = (classifier.config.label_from, classifier.config.group_from) if named else ()
    dataset = Dataset.open(source, *levels)
    found = len(known & {digest for record in dataset.records for digest in (record.identity, record.digest)})
    told = f"{found} of the {len(known)} photos of {classifier.path} are in {source}"
    if known and not found:
        raise DataError(f"{told}; type --photos FOLDER")
    if found < len(known):
        _console.warn(f"only {told}; if the others are elsewhere, type --photos FOLDER")
    return dataset


def sides_of(classifier: Classifier, dataset: Dataset) -> Split:
    """On which side of the run's split each photo was; one that the run did not know is on none.

    Raises:
        RunError: the run's split is missing or damaged.
    """
    place = {digest: side for side, digests in _split_of(classifier).items() for digest in digests}
    # Runs of old shards know their photos by the shards' bytes, all others by the photos that those were made from.
    found = [place.get(record.identity, place.get(record.digest)) for record in dataset.records]
    return Split(**{side: tuple(i for i, at in enumerate(found) if at == side) for side in SIDES})


def _split_of(classifier: Classifier) -> dict[str, tuple[str, ...]]:
    """The digests of the photos on each side of a run's split. Raises RunError."""
    known = read_split(classifier.path or Path())
    return {side: getattr(known, side) for side in SIDES}


def _options(backbone: Backbone) -> dict[str, str]:
    options = {key: getattr(backbone.options, key) for key in ("stages", "weights", "pixels")}
    return {**options, "tuned": LAYOUT.backbone} if backbone.options.tuned else options


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
