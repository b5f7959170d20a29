"""The classifier: transform, backbone, head, calibration and classes together, which a run folder holds on disk.

In: what `train` learned, or a run folder. Out: probabilities for photos.
Why: a head without its preprocessing, class order and backbone version is a source of wrong answers.
Surprise: ``manifest.json`` is written last, and a folder without this file is not a run.
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

from regraft.backbones.base import Backbone
from regraft.backbones.side_by_side import PLUS, parts_of
from regraft.classifiers.backbone_record import BackboneRecord
from regraft.classifiers.calibration import Calibration
from regraft.classifiers.evaluation import Evaluation
from regraft.classifiers.learning_curves import read_curves
from regraft.classifiers.metrics import Metrics
from regraft.classifiers.predictor import Answered, Answers, answer_all
from regraft.classifiers.run_folder import LAYOUT, SCHEMA, Manifest, Run, Sides, read_run, read_split, write_run
from regraft.config.training import TrainConfig
from regraft.drawing.figures import curves_figure
from regraft.drawing.html import displayed_by
from regraft.engines.base import Engine, load_engines, record_of
from regraft.errors import DataError, RunError, option
from regraft.features.features import features_of
from regraft.foundation import console
from regraft.foundation.documents import mended
from regraft.foundation.files import as_path
from regraft.heads.base import Head
from regraft.label_tools.correction_table import read_corrections
from regraft.label_tools.corrections import Corrections
from regraft.photos.dataset import Dataset, takes_levels
from regraft.photos.images import Problem
from regraft.photos.sources.base import SIDES
from regraft.photos.splitting import Split
from regraft.photos.unlabelled import Found, Photo, path_of, photos_in

MANY = 8
"""The smallest number of photos for which the engine that is compiled for throughput is used."""


@dataclass(frozen=True)
class Classifier:
    """A trained classifier, which is a `Predictor`.

    Attributes:
        backbone: the backbone, which computes the features.
        head: the fitted head, which computes logits from the features.
        classes: the labels, in the order of the probabilities.
        config: the options of the training.
        metrics: the metrics and counts of the training, as in ``metrics.json``.
        path: the run folder of the classifier; None where it has none.
        int8: the path of the backbone's quantised graph; None where features are not computed in int8.
        source: the photos of the training: an absolute path, or whatever else `Dataset.open` takes.
        calibration: the calibration, which computes answers from the logits.
        precision: the precision in which the features of the training photos were computed, ``bf16`` or ``f32``, in
            which features of new photos are computed too; empty for the fastest precision of this processor.
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
        """The temperature: the number by which the logits are divided before the softmax."""
        return self.calibration.temperature

    @property
    def threshold(self) -> float | None:
        """The novelty above which the answer is "none of these"; None for never."""
        return self.calibration.threshold

    @property
    def evaluation(self) -> Evaluation:
        """The evaluation that the run reports: of its folds, or else of its test side, or of val if test has no photo.

        Raises:
            ValueError: the metrics are not those of a run.
        """
        return Metrics.from_dict(self.metrics).measured[1]

    def plot_curves(self) -> Any:
        """Draw the learning curves of the run: of its fine-tuning, or of the training of its head.

        Returns:
            A ``matplotlib.figure.Figure``, which a notebook shows, and whose ``savefig(path)`` writes a file.

        Raises:
            ConfigError: matplotlib is not installed.
            RunError: the classifier has no run folder, or the run has no learning curves.
        """
        curves = read_curves(run_path(self))
        return curves_figure(curves.panels, curves.step, curves.thawed)

    _repr_html_ = displayed_by("regraft.reporting.displays:classifier_html")

    @cached_property
    def _engines(self) -> tuple[tuple[Engine, ...], tuple[Engine, ...]]:
        """The engines for few photos (low latency), and the engines for many photos (high throughput)."""
        return engines_of(self, many=False), engines_of(self)

    def predict_proba(
        self, images: Photo | Iterable[Photo], on_problem: Callable[[Problem], None] | None = None
    ) -> NDArray[np.float32]:
        """Return class probabilities ``(N, C)``, float32, each row summing to 1.

        Args:
            images: the photos, as `photos_in` takes them: one or several, a folder, a data set. Features of photos that
                are `ImageRecord` s come from the cache or go to it; those of other photos are not kept.
            on_problem: called with each photo that cannot be read; the row of such a photo is NaN.

        Raises:
            DataError: ``images`` are no photos.
            ImageError: a photo cannot be read and there is no ``on_problem``.
        """
        return self.answers(images, on_problem).probabilities

    def answers(self, images: Photo | Iterable[Photo], on_problem: Callable[[Problem], None] | None = None) -> Answers:
        """Return class probabilities ``(N, C)`` and the novelty ``(N,)`` of each photo.

        The arguments are those of `predict_proba`. Novelty is NaN where the classifier has no novelty.

        Raises:
            DataError: ``images`` are no photos.
            ImageError: a photo cannot be read and there is no ``on_problem``.
        """
        return answer_all(images, len(self.classes), self._answer, on_problem)

    def _answer(self, photos: Sequence[Found]) -> Answered:
        """Yield the photos that cannot be read with the reasons, and then the answers to all other photos."""
        x, reasons = self._features(photos)
        yield from sorted(reasons.items())
        good = np.flatnonzero(~np.isnan(x[:, 0])).tolist()
        yield good, self.answers_to(x[good])

    def answers_to(self, x: NDArray[np.float32]) -> Answers:
        """Return the answers to photos with the features ``x`` (N, D), as `features` returns them.

        Raises:
            RunError: the head does not take so many features, or the answers are not finite.
        """
        try:
            with np.errstate(all="ignore"):
                found = self.calibration.answers(x, self.head.logits(x))
        except ValueError as error:
            raise RunError(
                f"{self.path or 'the classifier'} has a head that does not take {x.shape[1]} features; train it again"
            ) from error
        checked = found if self.calibration.novelty else found[:1]  # without a fitted novelty, novelty is NaN
        if not all(np.isfinite(numbers).all() for numbers in checked):  # finite weights can still overflow
            raise RunError(
                f"{self.path or 'the classifier'} answers with numbers that are not finite: its head or its "
                "calibration is damaged; train it again"
            )
        return found

    def features(self, images: Photo | Iterable[Photo]) -> tuple[NDArray[np.float32], tuple[Problem, ...]]:
        """Return the features of photos.

        Args:
            images: the photos, as `photos_in` takes them.

        Returns:
            The features ``(N, D)``, float32, with a row of NaN for each photo that cannot be read; and the photos that
            cannot be read, with the reasons.

        Raises:
            DataError: ``images`` are no photos.
            RunError: the int8 graph of the backbone cannot be run.
        """
        photos = list(photos_in(images))
        x, reasons = self._features(photos)
        return x, tuple(Problem(path_of(photos[i], i), reason) for i, reason in sorted(reasons.items()))

    def _features(self, photos: Sequence[Found]) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Return the features (N, D), and the reason by index for each photo that cannot be read. Raises RunError."""
        try:
            return features_of(photos, self._engines[len(photos) >= MANY])
        except RuntimeError as error:
            if self.int8 is None:
                raise
            raise RunError(f"{self.int8} cannot be run ({_first_line(error)}); train the run again") from error

    def trained_digests(self) -> frozenset[str]:
        """Return the identities of the photos on the train side of the run's split; none without a run folder.

        Raises:
            RunError: the run's split is missing or damaged.
        """
        return frozenset(read_split(self.path).train) if self.path else frozenset()

    def save(self, folder: Path, dataset: Dataset, split: Mapping[str, Sequence[int]]) -> None:
        """Write the classifier as a run into a folder, the manifest last.

        Args:
            folder: a folder that is empty, but for the corrections of a run that was trained with any.
            dataset: the photos of the training.
            split: by side (``train``, ``val``, ``test``), the indices of the photos in ``dataset``.

        Raises:
            RunError: the arrays or metrics of the classifier hold a number that is not finite.
        """
        sides = Sides(**{side: tuple(dataset.records[i].identity for i in split[side]) for side in SIDES})
        with mended(RunError):
            document = self._manifest(dataset, (folder / LAYOUT.corrections).exists())
            manifest = Manifest.of(document, "the run cannot be written")
        write_run(folder, Run(manifest, self.config, self.metrics, self.head, self.calibration, self.int8), sides)

    def _manifest(self, dataset: Dataset, corrected: bool) -> dict[str, Any]:
        """Return the document of the run's manifest; ``corrected`` tells whether labels were corrected."""
        from importlib.metadata import version

        plain = 3 if len(parts_of(self.backbone)) > 1 else 2  # as few readers as possible are too old
        return {
            "schema": SCHEMA if corrected else plain,
            "classes": list(self.classes),
            "backbone": BackboneRecord.of(self.backbone).to_dict(),
            "head": self.config.head,
            "calibration": self.calibration.to_dict(),
            "data": {"digest": dataset.digest, "photos": len(dataset.records), "source": self.source},
            "made_by": {
                "regraft": version("regraft"),
                "python": platform.python_version(),
                "platform": f"{sys.platform}-{platform.machine()}",
                **record_of(self._engines[1]),
                **{package: version(package) for package in ("numpy", "openvino", "pillow")},
            },
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Classifier:
        """Read a run folder and return its classifier.

        Args:
            path: the run folder.

        Raises:
            ConfigError: ``path`` is no path.
            RunError: the folder is not a run, is damaged, or was written by a newer regraft; or the installed backbone
                is not the one on which the run was trained.
            BackboneError: the backbone of the run is not installed here.
        """
        folder = as_path(path, "the run")
        run = read_run(folder)
        return cls(
            run.manifest.backbone.load(folder, run.manifest.made_by),
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


def _trained_in(manifest: Mapping[str, Any]) -> str:
    """Return the precision in a run's manifest, ``bf16`` or ``f32``; empty for any other precision or for none.

    The precisions of several backbones have a plus between them where they differ.
    """
    precision: str = manifest.get("made_by", {}).get("precision", "")
    parts = len(manifest["backbone"].get("parts", ())) or 1
    names = precision.split(PLUS)
    return precision if set(names) <= {"bf16", "f32"} and len(names) in (1, parts) else ""


def engines_of(classifier: Classifier, many: bool = True) -> tuple[Engine, ...]:
    """Return the engines that compute features as those of the run's training photos were computed.

    Args:
        classifier: the classifier of the run.
        many: whether the engines are for many photos (high throughput), or for few photos (low latency).

    Raises:
        BackboneError: the engine of the run is not installed.
    """
    return load_engines(classifier.backbone, classifier.config, many, classifier.int8, classifier.precision)


def run_path(run: Any) -> Path:
    """Return the folder of a run.

    Args:
        run: the path of the folder, or a `Classifier`.

    Raises:
        ConfigError: ``run`` is neither a path nor a classifier.
        RunError: the classifier has no run folder.
    """
    if isinstance(run, Classifier):
        if run.path is None:
            raise RunError("the classifier has no run folder; save it, or train it with out=FOLDER")
        return run.path
    return as_path(run, "the run")


def open_photos(classifier: Classifier, photos: str | os.PathLike[str] | None = None) -> Dataset:
    """Open the photos of a run's training as a data set, with the labels that the training had. Warn of missing ones.

    The classes have the order of the run's classes; classes that the run does not know come after them.

    Args:
        classifier: the classifier of the run.
        photos: where the photos are now, as `Dataset.open` takes them; None where they have not moved.

    Raises:
        DataError: the source is not there, or has none of the photos of the run.
        RunError: the run does not say where its photos are, and ``photos`` is None.
    """
    source = os.fspath(photos or classifier.source)
    if not source:
        raise RunError(f"{classifier.path} does not say where its photos are; type {option('photos', 'FOLDER')}")
    known = {digest for digests in _split_of(classifier).values() for digest in digests}
    if not photos and Path(source).is_absolute() and not Path(source).exists():
        gone = f"the {len(known)} photos of {classifier.path} were in {source}, which is not there any more"
        raise DataError(f"{gone}; type {option('photos', 'FOLDER')}")
    # Only folders and archives take levels, and ``photos`` may be another kind of source, such as a table.
    levels = (classifier.config.label_from, classifier.config.group_from) if takes_levels(source) else ()
    dataset = corrected(classifier, Dataset.open(source, *levels))
    found = len(known & {digest for record in dataset.records for digest in (record.identity, record.digest)})
    present = f"{found} of the {len(known)} photos of {classifier.path} are in {source}"
    if known and not found:
        raise DataError(f"{present}; type {option('photos', 'FOLDER')}")
    if found < len(known):
        console.warn(f"only {present}; if the others are elsewhere, type {option('photos', 'FOLDER')}")
    return dataset


def corrected(classifier: Classifier, dataset: Dataset, adds: bool = True) -> Dataset:
    """Return a data set with the corrections that a run was trained with, and the classes in the run's order.

    Args:
        classifier: the classifier of the run.
        dataset: photos with the labels that their source gives them.
        adds: whether the photos are added that the corrections added to the run's training.
    """
    rows = read_corrections(classifier.path / LAYOUT.corrections) if classifier.path else Corrections()
    return rows.apply(dataset, adds).in_order(classifier.classes)


def sides_of(classifier: Classifier, dataset: Dataset) -> Split:
    """Return the split of a run as indices into a data set. Photos that the run did not know are on no side.

    Args:
        classifier: the classifier of the run.
        dataset: the photos, as `open_photos` returns them.

    Raises:
        RunError: the run's split is missing or damaged.
    """
    place = {digest: side for side, digests in _split_of(classifier).items() for digest in digests}
    # Runs that were trained on old shards know a photo by its bytes in the shard (digest). All other runs know a photo
    # by the original file from which the shard was made (identity).
    found = [place.get(record.identity, place.get(record.digest)) for record in dataset.records]
    return Split(**{side: tuple(i for i, at in enumerate(found) if at == side) for side in SIDES})


def _split_of(classifier: Classifier) -> dict[str, tuple[str, ...]]:
    """Return the digests of the photos on each side of a run's split, by side. Raises RunError."""
    known = read_split(classifier.path or Path())
    return {side: getattr(known, side) for side in SIDES}


def _first_line(error: Exception) -> str:
    """Return the first line of an error's message that is not empty, or the name of the error's class."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
