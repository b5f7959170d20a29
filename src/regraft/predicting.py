"""The functions `predict` and `evaluate` for Python: a predictor and photos → answers, or an Evaluation.

In: the arguments of the commands `predict` and `evaluate`, or a predictor that is already loaded. Out: the answers or
the evaluation that these commands print.
Why: a Python function must accept all that the command of the same name accepts.
Surprise: where a run knows its training photos, `evaluate` warns if they are among the photos, as the command does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from regraft.classifiers import evaluation, prediction
from regraft.classifiers.classifier import Classifier
from regraft.classifiers.evaluation import Evaluation
from regraft.classifiers.prediction import Prediction
from regraft.classifiers.predictor import Predictor
from regraft.config.levels import Levels
from regraft.errors import ConfigError
from regraft.exporting.formats.base import load_predictor
from regraft.foundation.files import kind_of
from regraft.photos.dataset import Dataset, takes_levels
from regraft.photos.images import Problem


def predictor_of(given: Any) -> Predictor:
    """Return a predictor.

    Args:
        given: a predictor, which is returned as it is, or the path of a run folder or an export, which is loaded.

    Raises:
        ConfigError: ``given`` is neither a predictor nor a path.
        RunError, ExportError: there is no run or export at the path, or it cannot be read.
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
    """Return the most probable classes of each photo.

    Args:
        predictor: a classifier, a loaded export, or the path of a run folder or an export.
        photos: one or several of the following, also from a generator: a file, which is always answered; a folder, in
            which only files that look like an image are answered; another source of photos; the bytes of a file; a
            Pillow image; RGB pixels, uint8 (H, W, 3).
        top: the number of classes in each answer, at least 1.

    Returns:
        One answer for each photo, in the order of the photos.

    Raises:
        ConfigError: ``predictor`` is not a predictor, or ``top`` is not a whole number of at least 1.
        DataError: one of the items in ``photos`` is not a photo.
        RunError, ExportError: there is no run or export at the path, or it cannot be read.
    """
    return list(predict_each(predictor, photos, top))


def predict_each(predictor: Predictor | str | os.PathLike[str], photos: Any, top: int = 1) -> Iterator[Prediction]:
    """Return an iterator over the answers to photos. Memory does not grow with the number of photos.

    Arguments, answers and errors are those of `predict`. Each answer is yielded as soon as it is known.
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
        predictor: a classifier, a loaded export, or the path of a run folder or an export.
        photos: a data set, which is measured as a whole; or whatever `Dataset.open` takes. Where such photos come with
            a split, only the test side is measured, or val where there is no test side.
        label_from: for a folder or an archive, the folder that names the class of a photo, as in `Dataset.open`; empty
            for the option that the run was trained with.
        group_from: for a folder or an archive, the folder that names the group of a photo; empty for no groups.

    Returns:
        The evaluation, and the photos that could not be read.

    Raises:
        ConfigError: ``predictor`` is not a predictor.
        DataError: there are no photos, or they have a class that the predictor does not know.
        RunError, ExportError: there is no run or export at the path, or it cannot be read.
    """
    found = predictor_of(predictor)
    trained = found.trained_digests() if isinstance(found, Classifier) else frozenset[str]()
    if isinstance(photos, Dataset):
        evaluation.warn_of_trained(photos, trained)
        return evaluation.evaluate(found, photos)
    own = found.config.label_from if isinstance(found, Classifier) and takes_levels(photos) else "first"
    levels = Levels(label_from=label_from or own, group_from=group_from)
    return evaluation.evaluate_photos(found, photos, trained, levels)
