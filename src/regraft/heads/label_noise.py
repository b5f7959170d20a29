"""Wrong labels: how many there seem to be, and which photos a head should not learn from.

A head with a weak penalty learns wrong labels by heart. With a fifth of the labels of the flowers wrong, leaving out
the photos whose label the other photos contradict gained more than any penalty (docs/decisions.md, 2026-11-27). With
right labels it costs accuracy, so it is done only where the labels are measurably wrong.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from regraft.heads.base import Matrix, softmax

_SHARES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
_TEMPERATURES = np.exp(np.linspace(-3.5, 3.0, 34))

_SURE = 6.63
"""The smallest test statistic of a likelihood ratio with one degree of freedom that chance exceeds in 1 % of cases."""

_FEWEST_WRONG = 0.1
"""The smallest share of wrong labels at which photos are left out: below it, hard photos are lost with the wrong."""

_TIMES = 5.0
"""A label is contradicted by an answer that is so many times as probable."""


class Noise(NamedTuple):
    """The estimated share of labels that are drawn at random, in 0..1, and the temperature of the logits."""

    share: float
    temperature: float


def estimate(logits: Matrix, y: NDArray[np.int64]) -> Noise:
    """Return the share of random labels under which the labels are likeliest; 0 where that may be chance.

    A label has the probability ``(1 - share) p + share q``, in which p is that of the class after a temperature, and q
    the share of the class among all labels. That is the noise model of G. Patrini et al., Making Deep Neural Networks
    Robust to Label Noise (2017), with one share for all classes.

    Args:
        logits: the logits (N, C) that a head gives to photos that it was not fitted on.
        y: the class indices (N,) of their labels.
    """
    rows, drawn = np.arange(len(y)), (np.bincount(y) / len(y))[y]
    best = dict.fromkeys(_SHARES, (np.inf, 1.0))
    for temperature in _TEMPERATURES.tolist():
        p = softmax(logits / np.float32(temperature))[rows, y].astype(np.float64)
        for share in _SHARES:
            loss = -np.log(np.maximum((1 - share) * p + share * drawn, 1e-30)).sum()
            best[share] = min(best[share], (float(loss), temperature))
    share = min(best, key=lambda one: best[one][0])
    if 2 * (best[0.0][0] - best[share][0]) < _SURE:
        share = 0.0
    return Noise(share, best[share][1])


def are_better(logits: Matrix, others: Matrix, y: NDArray[np.int64]) -> bool:
    """Return whether logits (N, C) give the labels (N,) a likelihood that is higher than others do by a standard error.

    Both are divided by the temperature that suits them best.
    """
    gain = _best_losses(others, y) - _best_losses(logits, y)
    return bool(gain.mean() > 0 and len(y) * gain.mean() ** 2 > gain.var())


def _best_losses(logits: Matrix, y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the cross-entropy of each photo (N,), in nats, after the temperature with the lowest mean."""
    rows = np.arange(len(y))
    found = (softmax(logits / np.float32(t))[rows, y].astype(np.float64) for t in _TEMPERATURES.tolist())
    return min((-np.log(np.maximum(p, 1e-30)) for p in found), key=np.mean)


def is_noisy(noise: Noise) -> bool:
    """Return whether so many labels are wrong that leaving photos out is worth its price."""
    return noise.share >= _FEWEST_WRONG


def contradicted(logits: Matrix, y: NDArray[np.int64], temperature: float) -> NDArray[np.bool_]:
    """Return for each photo (N,) whether another class is `_TIMES` times as probable as its label."""
    p = softmax(logits / np.float32(temperature))
    result: NDArray[np.bool_] = p.max(axis=1) > _TIMES * p[np.arange(len(y)), y]
    return result
