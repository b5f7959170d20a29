"""A predictor as the two steps that a server needs: decode one photo, and answer several decoded photos.

In: a `Predictor`. Out: an `Answerer`, whose methods work in the thread that calls them.
Why: the threads of the server answer several requests at once, and each photo is decoded by the thread that answers it.
Surprise: no engine for a single photo is compiled. The engine for many photos answers one photo on one core, which
costs less processor time for each photo, and the server is ready in half the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from regraft.classifiers.classifier import Classifier, engines_of
from regraft.classifiers.predictor import Answers, Predictor
from regraft.engines.base import Engine, key_of
from regraft.errors import ConfigError
from regraft.exporting.formats.base import Artifact
from regraft.foundation.files import kind_of
from regraft.photos.images import Pixels, Transform
from regraft.photos.unlabelled import Found, loader

Decoded = tuple[Pixels, ...]
"""The pixels of one photo, ``(size, size, 3)`` uint8, for each backbone of a predictor (usually one)."""


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """Pixels ``(size, size, 3)`` uint8 that the client has cropped and scaled as the classifier's transform does."""

    pixels: Pixels


class Answerer(Protocol):
    """Answers photos in the thread that calls it. Several threads may call it at once.

    Attributes:
        most: the most photos that it should be asked about together.
    """

    most: ClassVar[int]

    def decode(self, photo: Found | Scaled) -> Decoded:
        """Return the pixels of a photo. Raises ImageError where the photo cannot be read."""
        ...

    def answer(self, photos: Sequence[Decoded]) -> Answers:
        """Return the answers to N photos, N at least 1.

        Raises:
            BackboneError, RunError, ExportError: the network cannot be run, or its answers are not finite.
        """
        ...


def answerer_of(predictor: Predictor, loaded: Sequence[Answerer] = ()) -> Answerer:
    """Return the answerer of a run's classifier or of a loaded export. Nothing is compiled yet.

    Args:
        predictor: the predictor.
        loaded: other answerers, whose engines are used where they compute the same features.

    Raises:
        ConfigError: the predictor is something else.
        BackboneError: the engine of the run is not installed.
    """
    if isinstance(predictor, Classifier):
        engines = engines_of(predictor)
        others = [other.engines for other in loaded if isinstance(other, OfClassifier)]
        return OfClassifier(predictor, next((other for other in others if key_of(other) == key_of(engines)), engines))
    if isinstance(predictor, Artifact):
        return _OfExport(predictor)
    raise ConfigError(f"the predictor is {kind_of(predictor)}; wanted a run or an export")


@dataclass(frozen=True, slots=True)
class OfClassifier:
    """Answers photos by the classifier of a run.

    Attributes:
        classifier: the classifier.
        engines: the engine of each of its backbones.
        most: the most photos that are computed together.
    """

    classifier: Classifier
    engines: tuple[Engine, ...]
    most: ClassVar[int] = 8

    def decode(self, photo: Found | Scaled) -> Decoded:
        """Return the pixels of a photo for each backbone. Raises ImageError where the photo cannot be read."""
        return tuple(_load(photo, engine.backbone.transform) for engine in self.engines)

    def features(self, photos: Sequence[Decoded]) -> NDArray[np.float32]:
        """Return the features ``(N, D)`` of N photos. Raises BackboneError, RunError."""
        columns = zip(*photos, strict=True)
        parts = [engine.features(np.stack(pixels)) for engine, pixels in zip(self.engines, columns, strict=True)]
        return np.concatenate(parts, axis=1)

    def answer(self, photos: Sequence[Decoded]) -> Answers:
        """Return the answers to N photos. Raises BackboneError, RunError."""
        return self.classifier.answers_to(self.features(photos))


@dataclass(frozen=True, slots=True)
class _OfExport:
    artifact: Artifact
    most: ClassVar[int] = 4  # a photo costs the same in larger batches, and the last one of a batch waits longer

    def decode(self, photo: Found | Scaled) -> Decoded:
        return (_load(photo, self.artifact.facts.transform),)

    def answer(self, photos: Sequence[Decoded]) -> Answers:
        found, novelty = self.artifact.ask(np.stack([pixels for (pixels,) in photos]))
        return Answers(found, np.full(len(found), np.nan, np.float32) if novelty is None else novelty)


def _load(photo: Found | Scaled, transform: Transform) -> Pixels:
    """Return the pixels of a photo as the network sees them. Raises ImageError where the photo cannot be read."""
    return photo.pixels if isinstance(photo, Scaled) else loader(photo, transform)()
