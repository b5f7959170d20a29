"""How well the confidence of answers tells their accuracy: log loss, calibration error, reliability and coverage.

Confidence is the probability of the most probable class. Probabilities are of N photos and C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


def log_loss(p: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    """Return the mean cross-entropy, in nats, of probabilities (N, C) and class indices (N,)."""
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-15)).mean())


def uncalibrated(p: NDArray[np.float64], y: NDArray[np.int64], temperature: float) -> Uncalibrated:
    """Return the metrics of probabilities (N, C) without the temperature, to whose power they are raised."""
    # Softmax loses only a constant that is added to all logits of a photo, so normalised powers undo the temperature.
    raw = np.maximum(p, 1e-30) ** temperature
    raw /= raw.sum(axis=1, keepdims=True)
    bins = reliability(raw, raw.argmax(axis=1) == y)
    return Uncalibrated(log_loss(raw, y), calibration_error(bins), bins)


def reliability(p: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Return the `BINS` confidence bins of photos with probabilities (N, C), of which ``right`` (N,) are right."""
    confidence = p.max(axis=1)
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
