"""Batches in which no photo is seen the same way twice.

In: maps at a cut or pixels, features, targets. Out: batches for training, each a function of epoch and number alone.
Why: a few thousand photos are soon known by heart.
Surprise: maps are cropped and mirrored as if they were photos; colours can only be changed in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from regraft._files import thread_limit
from regraft.activations import Activations
from regraft.config import FinetuneConfig
from regraft.features import Features
from regraft.optimisation import Inputs

CROP = 0.9
"""Side of a crop, as a share of what the backbone sees."""
_COLOUR = 0.4  # how far brightness, contrast and saturation go from 1
_CHANGES, _STRENGTH = 2, 0.3  # RandAugment's N, and its M of 9 out of 30

Dice = np.random.Generator
MakeInputs = Callable[[NDArray[Any], NDArray[np.int64]], Inputs]


class Augmented:
    """Random crops and mirrorings, then mixup and CutMix.

    mixup: H. Zhang et al. (2018, arXiv:1710.09412). CutMix: S. Yun et al. (2019, arXiv:1905.04899).

    Args:
        views: of each training photo: maps (h, w, C), larger than the network's, or pixels; one is drawn each time.
        features: row for row with the records; their digests name the maps.
        train: the rows to train on.
        side: of the maps as the backbone sees them.
        inputs: what the network takes for maps (B, h, w, C) of the photos at rows (B,).
        config: how to augment, and photos a step.
        multiple: of what number a batch must have its photos.
    """

    def __init__(
        self,
        views: Sequence[Activations],
        features: Features,
        train: tuple[int, ...],
        side: int,
        inputs: MakeInputs,
        config: FinetuneConfig,
        multiple: int = 1,
    ) -> None:
        self.views, self.features, self.inputs, self.config = views, features, inputs, config
        self.rows = np.array([i for i in train if all(features.digests[i] in view for view in views)], np.int64)
        self.size = max(1, min(config.batch_size, len(self.rows)) // multiple) * multiple
        self.crop = max(1, round(side * CROP))
        classes = len(features.classes)
        self.targets = np.eye(classes, dtype=np.float32)[features.y]
        counts = np.bincount(features.y[self.rows], minlength=classes)
        share = len(self.rows) / (classes * np.maximum(counts, 1))
        self.weight = share[features.y] if config.class_weight == "balanced" else np.ones(len(features.y))

    def __len__(self) -> int:
        """Whole batches in an epoch; the photos of the rest are others each time."""
        return max(1, len(self.rows) // self.size)

    def batch(self, epoch: int, number: int) -> tuple[Inputs, NDArray[np.float32]]:
        """The same for the same seed, epoch and number."""
        order = np.random.default_rng([self.config.seed, epoch]).permutation(self.rows)
        rows = np.resize(order[number * self.size : (number + 1) * self.size], self.size)
        dice = np.random.default_rng([self.config.seed, epoch, number])
        maps = np.stack(self._seen(rows, dice))
        targets: NDArray[Any] = self.targets[rows] * self.weight[rows, np.newaxis]
        inputs = self.inputs(maps, rows)
        if self.config.cutmix and (not self.config.mixup or dice.random() < 0.5):
            inputs, targets = _cutmix(inputs, targets, self.config.cutmix, dice)
        elif self.config.mixup:
            inputs, targets = _mixup(inputs, targets, self.config.mixup, dice)
        return inputs, targets.astype(np.float32)

    def _seen(self, rows: NDArray[np.int64], dice: Dice) -> list[NDArray[Any]]:
        """Each photo's view. Pixels are changed side by side, each by dice of its own."""
        dices = dice.spawn(len(rows))
        change = _CHANGE.get(self.config.augment)

        def one(i: int) -> NDArray[Any]:
            maps = self.views[int(dices[i].integers(len(self.views)))][self.features.digests[rows[i]]]
            view = _cropped(maps, self.crop, dices[i])
            return change(view, dices[i]) if change else view

        if change is None:
            return [one(i) for i in range(len(rows))]
        with ThreadPoolExecutor(thread_limit()) as pool:
            return list(pool.map(one, range(len(rows))))


def _cropped(maps: NDArray[Any], side: int, dice: Dice) -> NDArray[Any]:
    top, left = dice.integers(0, [length - side + 1 for length in maps.shape[:2]])
    view = maps[top : top + side, left : left + side]
    return view[:, ::-1] if dice.random() < 0.5 else view


def _mixup(inputs: Inputs, targets: NDArray[Any], alpha: float, dice: Dice) -> tuple[Inputs, NDArray[Any]]:
    """Blend each photo with another one of the batch."""
    share = float(dice.beta(alpha, alpha))
    other = dice.permutation(len(targets))
    blended = [np.asarray(share * x + (1 - share) * x[other], np.float32) for x in inputs]
    return blended, share * targets + (1 - share) * targets[other]


def _cutmix(inputs: Inputs, targets: NDArray[Any], alpha: float, dice: Dice) -> tuple[Inputs, NDArray[Any]]:
    """Paste a piece of another photo into each; features from below the cut are blended by its area."""
    maps, *rest = inputs
    height, width = maps.shape[1:3]
    side = np.sqrt(1 - dice.beta(alpha, alpha))
    (top, bottom), (left, right) = (_piece(length, side, dice) for length in (height, width))
    other = dice.permutation(len(targets))
    mixed = maps.copy()
    mixed[:, top:bottom, left:right] = maps[other, top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / (height * width)
    blended = [np.asarray(share * x + (1 - share) * x[other], np.float32) for x in rest]
    return [mixed, *blended], share * targets + (1 - share) * targets[other]


def _piece(length: int, side: float, dice: Dice) -> tuple[int, int]:
    centre, half = dice.integers(0, length), length * side / 2
    return max(0, round(centre - half)), min(length, round(centre + half))


def _colour(photo: NDArray[np.uint8], dice: Dice) -> NDArray[np.uint8]:
    """Brightness, contrast and saturation, each somewhat."""
    image = Image.fromarray(np.ascontiguousarray(photo))
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = kind(image).enhance(float(dice.uniform(1 - _COLOUR, 1 + _COLOUR)))
    return np.asarray(image)


def _randaugment(photo: NDArray[np.uint8], dice: Dice) -> NDArray[np.uint8]:
    """Two of many changes, drawn at random (E. Cubuk et al., RandAugment, 2019, arXiv:1909.13719)."""
    image = Image.fromarray(np.ascontiguousarray(photo))
    for number in dice.integers(0, len(_RANDAUGMENT), _CHANGES):
        image = _RANDAUGMENT[number](image, _STRENGTH * float(dice.choice([-1, 1])))
    return np.asarray(image)


def _moved(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=(128,) * 3)


_RANDAUGMENT: tuple[Callable[[Image.Image, float], Image.Image], ...] = (
    lambda image, _: image,
    lambda image, _: ImageOps.autocontrast(image),
    lambda image, _: ImageOps.equalize(image),
    lambda image, s: image.rotate(30 * s, Image.Resampling.BILINEAR, fillcolor=(128,) * 3),
    lambda image, s: ImageOps.solarize(image, round(256 * (1 - abs(s)))),
    lambda image, s: ImageOps.posterize(image, 8 - round(4 * abs(s))),
    lambda image, s: ImageEnhance.Color(image).enhance(1 + 0.9 * s),
    lambda image, s: ImageEnhance.Contrast(image).enhance(1 + 0.9 * s),
    lambda image, s: ImageEnhance.Brightness(image).enhance(1 + 0.9 * s),
    lambda image, s: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * s),
    lambda image, s: _moved(image, (1, 0.3 * s, 0, 0, 1, 0)),
    lambda image, s: _moved(image, (1, 0, 0, 0.3 * s, 1, 0)),
    lambda image, s: _moved(image, (1, 0, 0.45 * s * image.width, 0, 1, 0)),
    lambda image, s: _moved(image, (1, 0, 0, 0, 1, 0.45 * s * image.height)),
)
_CHANGE: dict[str, Callable[[NDArray[np.uint8], Dice], NDArray[np.uint8]]] = {
    "colour": _colour,
    "randaugment": _randaugment,
}
