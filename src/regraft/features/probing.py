"""How well features tell classes apart: ridge regression in which each photo is answered by all others.

In: the features of a few hundred photos. Out: a `Probe`, by which backbones are compared.
Why: no backbone is the best one on all photos, and its accuracy on ImageNet says little about the photos of a user.
Surprise: no head is trained N times. The answer that a photo would get without itself follows from one fit in closed
form (D. M. Allen, The relationship between variable selection and data augmentation and a method for prediction, 1974).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from regraft.features.features import Features
from regraft.features.neighbours import last_stage

_PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


class Probe(NamedTuple):
    """What a probe found.

    Attributes:
        error: the mean over photos of the squared distance between an answer and the truth, of which the best penalty
            has the smallest. It tells backbones apart where the accuracy of a few hundred photos cannot.
        accuracy: the share of photos whose largest answer is the truth, in 0..1.
    """

    error: float
    accuracy: float


def probe(features: Features) -> Probe:
    """Return how well the last stages of the features tell the classes apart.

    Args:
        features: the features of at least two photos, with their stages.
    """
    roots = last_stage(features.x, features.stages).astype(np.float64) * len(features.stages) ** 0.5  # each at length 1
    roots -= roots.mean(axis=0)
    truth = np.eye(len(features.classes))[features.y]
    values, vectors = np.linalg.eigh(roots @ roots.T)
    found = []
    for penalty in _PENALTIES:
        hat = (vectors * (values / (values + penalty))) @ vectors.T
        own = np.minimum(np.diag(hat) + 1 / len(truth), 1 - 1e-6)  # how far each photo decides its own answer
        apart = (truth - truth.mean(axis=0) - hat @ (truth - truth.mean(axis=0))) / (1 - own)[:, np.newaxis]
        right = (truth - apart).argmax(axis=1) == features.y
        found.append(Probe(float((apart**2).sum(axis=1).mean()), float(right.mean())))
    return min(found)
