"""Class activation maps: which parts of a photo speak for a class, and which against it.

In: photos and a classifier. Out: for each photo `Activation`: a map (h, w) for each of a few classes.
Why: a person believes an answer whose reason can be seen, and finds there that a classifier looked at the background.
Surprise: nothing is trained or estimated: the features are means over space, so that a logit is the mean of a map.
Where a head is not a sum over features, or a network takes no mean, parts of the photo are covered instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.side_by_side import parts_of
from regraft.classifiers.classifier import Classifier
from regraft.engines.base import Engine, load_engines
from regraft.engines.last_maps import LastMaps, Mapped
from regraft.errors import ImageError
from regraft.foundation.files import threads
from regraft.heads.base import Explained
from regraft.photos.dataset import ImageRecord
from regraft.photos.images import Pixels

GRID = 7
"""The number of places on each side of a photo that are covered one after the other where there is no exact map."""

_GREY = 127


@dataclass(frozen=True, slots=True)
class Activation:
    """The activation maps of one photo.

    Attributes:
        kind: ``exact``: the mean of a map over space is what the last stage of the backbone adds to the logit;
            ``occlusion``: a map has the fall of the logit where that place of the photo is covered in grey.
        maps: the maps (K, h, w) float32 of the K classes that were asked for, in logits.
        classes: the class indices of the maps.
    """

    kind: Literal["exact", "occlusion"]
    maps: NDArray[np.float32]
    classes: tuple[int, ...]


class ActivationMaps:
    """Computes activation maps of a classifier's answers.

    Of several backbones side by side, the maps are those of the last one.

    Source: B. Zhou et al., Learning Deep Features for Discriminative Localization, 2016; for occlusion M. Zeiler and
    R. Fergus, Visualizing and Understanding Convolutional Networks, 2014.

    Args:
        classifier: the classifier.

    Raises:
        BackboneError: the graph of the backbone cannot be built.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._head = classifier.head
        self._backbone = parts_of(classifier.backbone)[-1]
        explained = isinstance(classifier.head, Explained)
        self._maps = LastMaps.of(self._backbone, classifier.int8) if explained else None
        self._engines: tuple[Engine, ...] = ()
        if self._maps is None:
            self._engines = load_engines(
                classifier.backbone, classifier.config, True, classifier.int8, classifier.precision
            )

    @property
    def kind(self) -> Literal["exact", "occlusion"]:
        """Whether the maps are exact, or come from covering parts of the photo."""
        return "exact" if self._maps else "occlusion"

    def of_all(
        self, records: Sequence[ImageRecord], x: NDArray[np.float32], classes: Sequence[tuple[int, ...]]
    ) -> Iterable[Activation | None]:
        """Yield the activation maps of N photos, in their order; None for a photo that cannot be read any more.

        Args:
            records: the N photos.
            x: the features (N, D) of the photos, as the classifier computes them.
            classes: for each photo, the indices of the classes whose maps are wanted.
        """
        with ThreadPoolExecutor(threads()) as pool:
            yield from pool.map(self._of, records, x, classes)

    def _of(self, record: ImageRecord, x: NDArray[np.float32], classes: tuple[int, ...]) -> Activation | None:
        try:
            data = record.read_unchanged()
            backbones = [self._backbone] if self._maps else [engine.backbone for engine in self._engines]
            photos = [backbone.transform.load(data) for backbone in backbones]
        except ImageError:
            return None
        return self.of_pixels(photos, x, classes)

    def of_pixels(self, photos: Sequence[Pixels], x: NDArray[np.float32], classes: tuple[int, ...]) -> Activation:
        """Return the activation maps of one photo. Several threads may call this at once.

        Args:
            photos: the pixels of the photo, as each backbone sees it; for an exact map those of the last are enough.
            x: the features (D,) of the photo, as the classifier computes them.
            classes: the indices of the classes whose maps are wanted.
        """
        if self._maps is None:
            return Activation("occlusion", self._covered(photos, classes), classes)
        return Activation("exact", self._exact(self._maps.run(photos[-1]), x, classes), classes)

    def _exact(self, mapped: Mapped, x: NDArray[np.float32], classes: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the maps (K, h, w) of classes: at each place, the sum of the maps of the last stage by their weights.

        The weights are those at the features of the same forward pass, so that the mean of a map is exactly the last
        stage's term of the logit. The other parts of backbones side by side come from ``x``, the features (D,).
        """
        assert isinstance(self._head, Explained)  # noqa: S101 (__init__ has asked)
        at = np.concatenate([x[: len(x) - len(mapped.features)], mapped.features])
        weight = self._head.weight_at(at)[-mapped.maps.shape[2] :, list(classes)]
        return np.ascontiguousarray(np.moveaxis(mapped.maps @ weight, 2, 0))

    def _covered(self, photos: Sequence[Pixels], classes: tuple[int, ...]) -> NDArray[np.float32]:
        """Return maps (K, `GRID`, `GRID`): how far the logits of classes fall where a place of the photo is grey.

        Args:
            photos: the pixels of the photo, as each backbone sees it.
            classes: the K class indices.
        """
        rows = [engine.features(_with_grey(pixels)) for engine, pixels in zip(self._engines, photos, strict=True)]
        logits = self._head.logits(np.concatenate(rows, axis=1))[:, list(classes)]
        return np.ascontiguousarray((logits[0] - logits[1:]).T.reshape(len(classes), GRID, GRID))


def _with_grey(pixels: Pixels) -> Pixels:
    """Return a photo (size, size, 3), and after it the same photo with each place of the grid in grey."""
    size = len(pixels)
    edges = np.linspace(0, size, GRID + 1).round().astype(int)
    result = np.repeat(pixels[np.newaxis], 1 + GRID * GRID, axis=0)
    for number in range(GRID * GRID):
        row, column = divmod(number, GRID)
        result[1 + number, edges[row] : edges[row + 1], edges[column] : edges[column + 1]] = _GREY
    return result
