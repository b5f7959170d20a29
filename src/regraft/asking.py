"""A run, an export, or what was loaded of one, and photos → answers, or an Evaluation: the verbs, for Python.

In: what the commands `predict` and `evaluate` take, and what such a thing is once it is loaded. Out: what they print.
Why: a function that takes less than the command of its name is a trap.
Surprise: photos that were trained on are told in a warning, as the command tells it, where the run knows them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from regraft import evaluation, prediction
from regraft._files import kind_of
from regraft._levels import Levels
from regraft.classifier import Classifier
from regraft.dataset import Dataset, takes_levels
from regraft.errors import ConfigError
from regraft.evaluation import Evaluation, Predictor
from regraft.exporters import load_predictor
from regraft.images import Problem
from regraft.prediction import Prediction


def predictor_of(given: Any) -> Predictor:
    """Return the predictor that ``given`` is, or that lies at the path which it is.

    Raises:
        ConfigError: it is neither.
        RunError, ExportError: there is none at that path, or it cannot be read.
    """
    if isinstance(given, str | os.PathLike):
        return load_predictor(given)
    if not callable(getattr(given, "answers", None)):
        raise ConfigError(
            f"the predictor is {kind_of(given)}; wanted a Classifier, what regraft.load_predictor gives, or the path "
            "of a run folder or an export"
        )
    predictor: Predictor = given
    return predictor


def predict(predictor: Predictor | str | os.PathLike[str], photos: Any, top: int = 1) -> list[Prediction]:
    """Answer photos.

    Args:
        predictor: a classifier, an exported file that was loaded, or the path of a run folder or an export.
        photos: one of these, or several, also from a generator: a file, which is always answered; a folder, of which
            only what looks like an image is; another source of photos; a file's bytes; a Pillow image; RGB pixels
            (H, W, 3) of uint8.
        top: how many classes each answer holds, at least 1.

    Returns:
        An answer for each photo, in the order asked.

    Raises:
        ConfigError: ``predictor`` is none, or ``top`` is no whole number of at least 1.
        DataError: there is something among the photos that is none.
        RunError, ExportError: there is no run or export at the path.
    """
    return list(predict_each(predictor, photos, top))


def predict_each(predictor: Predictor | str | os.PathLike[str], photos: Any, top: int = 1) -> Iterator[Prediction]:
    """Answer photos one after the other; memory does not grow with their number.

    As `predict` in all else: an iterator over the answers, each as soon as it is known.
    """
    return prediction.predict_each(predictor_of(predictor), photos, top)


def evaluate(
    predictor: Predictor | str | os.PathLike[str],
    photos: Dataset | str | os.PathLike[str],
    label_from: str = "",
    group_from: str = "",
) -> tuple[Evaluation, tuple[Problem, ...]]:
    """Measure a predictor on labelled photos.

    Args:
        predictor: a classifier, an exported file that was loaded, or the path of a run folder or an export.
        photos: whatever `Dataset.open` takes, of which the test side is measured, or else val, where photos have sides
            of their own; or a data set, of which all is.
        label_from: of a folder or an archive, the folder that names a photo's class, as in `Dataset.open`; empty for
            the one that the run was trained with.
        group_from: the folder that names its group, likewise; empty for none.

    Returns:
        The evaluation, and the photos that could not be read.

    Raises:
        ConfigError: ``predictor`` is none.
        DataError: there are no photos, or they have a class that the predictor does not know.
        RunError, ExportError: there is no run or export at the path.
    """
    found = predictor_of(predictor)
    if isinstance(photos, Dataset):
        return evaluation.evaluate(found, photos)
    trained = found.trained_digests() if isinstance(found, Classifier) else frozenset[str]()
    own = found.config.label_from if isinstance(found, Classifier) and takes_levels(photos) else "first"
    levels = Levels(label_from=label_from or own, group_from=group_from)
    return evaluation.evaluate_photos(found, photos, trained, levels)
