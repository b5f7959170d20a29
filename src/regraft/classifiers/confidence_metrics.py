"""How well the confidence of answers tells their accuracy: log loss, calibration error, reliability and coverage.

Confidence is the probability of the most probable class. Probabilities are of N photos and C classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from regraft.classifiers.predictor import Answers

TOP = 5  # the number of classes in the top-5 accuracy
BINS = 15  # equal-width confidence bins of the calibration error
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.5)  # the shares of the photos, the surest first, of which `Coverage` is measured


@dataclass(frozen=True, slots=True)
class Bin:
    """A bin of photos with similar confidence. Confidence is the probability of the most probable class.

    Attributes:
        low, high: the lower and upper confidence of the bin.
        n: the number of photos in the bin.
        confidence: the mean confidence of these photos; None in an empty bin.
        accuracy: the share of these photos that are right; None in an empty bin.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Uncalibrated:
    """Log loss, calibration error and bins of the same logits without the temperature, so before calibration."""

    log_loss: float
    calibration_error: float
    reliability: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """The accuracy on the ``share`` of photos with the highest confidence, and their lowest confidence."""

    share: float
    accuracy: float
    probability: float


@dataclass(frozen=True, slots=True)
class Judged:
    """What the metrics need to know of the answers to N photos, in place of all of their probabilities.

    Attributes:
        y: the class index of each photo's label, (N,).
        predicted: the index of the most probable class, (N,).
        confidence: the probability of that class, (N,).
        truth: the probability of the label, (N,).
        in_top5: whether the label is among the five most probable classes, (N,).
        raw: confidence, probability of the label and whether the photo is right, (3, N), without the temperature.
        novelty: the novelty, (N,).
    """

    y: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    truth: NDArray[np.float64]
    in_top5: NDArray[np.bool_]
    raw: NDArray[np.float64]
    novelty: NDArray[np.float32]

    def uncalibrated(self) -> Uncalibrated:
        """Return the metrics of the answers without the temperature."""
        confidence, truth, right = self.raw
        bins = reliability(confidence, right > 0)
        return Uncalibrated(log_loss(truth), calibration_error(bins), bins)


def judged(parts: Iterable[tuple[Answers, NDArray[np.int64]]], temperature: float) -> Judged:
    """Return what the metrics need to know of answers, which come in parts with the class indices of their photos."""
    found = [_judged(answers, y, temperature) for answers, y in parts]
    if not found:
        return _judged(Answers(np.empty((0, 1), np.float32), np.empty(0, np.float32)), np.empty(0, np.int64), 1.0)
    names = [field.name for field in fields(Judged)]
    return Judged(*(np.concatenate([getattr(part, name) for part in found], axis=-1) for name in names))


def _judged(answers: Answers, y: NDArray[np.int64], temperature: float) -> Judged:
    p, rows = answers.probabilities.astype(np.float64), np.arange(len(y))
    predicted = p.argmax(axis=1)
    # Softmax loses only a constant that is added to all logits of a photo, so normalised powers undo the temperature.
    raw = np.maximum(p, 1e-30) ** temperature
    raw /= raw.sum(axis=1, keepdims=True)
    before = raw.argmax(axis=1)
    return Judged(
        y,
        predicted,
        p[rows, predicted],
        p[rows, y],
        _rank(p, y) < TOP,
        np.stack([raw[rows, before], raw[rows, y], before == y]),
        answers.novelty,
    )


def _rank(p: NDArray[np.float64], y: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many classes come before the label, (N,): more probable ones, and equal ones with a lower index."""
    truth = p[np.arange(len(y)), y][:, np.newaxis]
    before = (p > truth) | ((p == truth) & (np.arange(p.shape[1]) < y[:, np.newaxis]))
    result: NDArray[np.int64] = before.sum(axis=1)
    return result


def log_loss(truth: NDArray[np.float64]) -> float:
    """Return the mean cross-entropy, in nats, of photos whose label has the probability ``truth`` (N,)."""
    return float(-np.log(np.maximum(truth, 1e-15)).mean())


def reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Return the `BINS` confidence bins of photos with this confidence (N,), of which ``right`` (N,) are right."""
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    result = []
    for i in range(BINS):
        inside = place == i
        means = (float(confidence[inside].mean()), float(right[inside].mean())) if inside.any() else (None, None)
        result.append(Bin(i / BINS, (i + 1) / BINS, int(inside.sum()), *means))
    return tuple(result)


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """Return the expected calibration error (M. Pakdaman Naeini et al., 2015), in 0..1."""
    total = sum(b.n for b in bins)
    return sum(b.n * abs((b.confidence or 0.0) - (b.accuracy or 0.0)) for b in bins) / total


def coverage(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[Coverage, ...]:
    """Return the accuracy on the surest photos, for each share in `COVERAGES`."""
    order = np.argsort(-confidence, kind="stable")
    counts = [math.ceil(share * len(order)) for share in COVERAGES]
    return tuple(
        Coverage(share, float(right[order[:n]].mean()), float(confidence[order[n - 1]]))
        for share, n in zip(COVERAGES, counts, strict=True)
    )
