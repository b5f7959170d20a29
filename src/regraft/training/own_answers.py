"""A run and photos → answers that the run did not learn by heart, where it has such answers.

In: a classifier, photos with their features. Out: the fold of each photo, and an answer to each photo.
Why: an accuracy on photos that a classifier was trained on says nothing.
Surprise: only photos that are in a fold of the run get such an answer; all other photos are answered by the classifier.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regraft.classifiers.classifier import Classifier
from regraft.classifiers.held_out import HeldOut
from regraft.classifiers.metrics import Metrics
from regraft.classifiers.predictor import Answers
from regraft.classifiers.run_folder import Sides
from regraft.features.features import Features
from regraft.photos.dataset import Dataset


def own_answers(
    classifier: Classifier, dataset: Dataset, features: Features, split: Sides | None
) -> tuple[NDArray[np.int64], Answers]:
    """Return the number of each photo's fold, and the answers to all photos: those of the folds where there are any.

    Args:
        classifier: the classifier.
        dataset: the N photos.
        features: the features of the photos.
        split: the split of the run; None where the photos are not those of the run.

    Returns:
        The number of the fold, (N,), negative for a photo in no fold; and the answers, row i to photo i.

    Raises:
        RunError: the out-of-fold answers of the run are missing or damaged.
    """
    own = classifier.answers_to(features.x)
    fold = np.full(len(features), -1, np.int64)
    if split is None or Metrics.from_dict(classifier.metrics).folds is None:
        return fold, own
    held = HeldOut.read(classifier.path or Path(), len(classifier.classes))
    rows = {digest: row for row, digest in enumerate((*split.train, *split.val))}
    at = [rows.get(record.identity, rows.get(record.digest, -1)) for record in dataset.records]
    found = [i for i, row in enumerate(at) if row >= 0 and held.fold[row] >= 0]
    taken = [at[i] for i in found]
    fold[found] = held.fold[taken]
    own.probabilities[found], own.novelty[found] = held.answers.probabilities[taken], held.answers.novelty[taken]
    return fold, own
