"""Data augmentation: training batches of randomly cropped, mirrored, coloured and mixed photos.

In: activations or pixels, features, targets. Out: training batches; each depends on the seed, epoch and number alone.
Why: without augmentation, a network overfits to a few thousand photos within a few epochs.
Surprise: activations are cropped and mirrored as if they were photos; colours can only be changed in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from regraft.config.finetuning import FinetuneConfig
from regraft.features.features import Features
from regraft.finetuning.activations import Activations
from regraft.finetuning.training_loop import Inputs
from regraft.foundation.files import thread_limit

CROP = 0.9
"""The side of a random crop, as a share of the side of the network's input."""
_COLOUR_JITTER = 0.4  # brightness, contrast and saturation are multiplied by 1 ± this
_RANDAUGMENT_N = 2  # changes a photo
_RANDAUGMENT_M = 9 / 30  # strength of a change, as a share of the highest

Dice = np.random.Generator
"""The random generator of one batch or one photo."""
MakeInputs = Callable[[NDArray[Any], NDArray[np.int64]], Inputs]
"""From activations or pixels (B, h, w, C) and the row numbers (B,) of their photos to the network's inputs."""


class Augmented:
    """Training batches with random crops and symmetric images, colour changes (of pixels), then mixup or CutMix.

    mixup: H. Zhang et al. (2018, arXiv:1710.09412). CutMix: S. Yun et al. (2019, arXiv:1905.04899).

    Args:
        views: caches of the training photos in one or more sizes and rotations; for each photo and batch one of them is
            drawn. They hold activations (h, w, C), larger than the network's input, or pixels (h, w, 3).
        features: the features of all photos; their digests are the keys of ``views``.
        train: the row numbers of the train photos.
        side: the height and width of the activations, or pixels, that the backbone is made for.
        inputs: makes the network's inputs from activations or pixels (B, h, w, C) and row numbers (B,).
        config: the augmentation, the batch size, the class weights and the seed.
        multiple: the batch size is a multiple of this number, such as the number of devices.
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
        self.views: Sequence[Activations] = views
        self.features: Features = features
        self.inputs: MakeInputs = inputs
        self.config: FinetuneConfig = config
        self.rows: NDArray[np.int64] = np.array(
            [i for i in train if all(features.digests[i] in view for view in views)], np.int64
        )
        self.size: int = max(1, min(config.batch_size, len(self.rows)) // multiple) * multiple
        self.crop: int = max(1, round(side * CROP))
        classes = len(features.classes)
        self.targets: NDArray[np.float32] = features.targets()
        counts = np.bincount(features.y[self.rows], minlength=classes)
        share = len(self.rows) / (classes * np.maximum(counts, 1))
        self.weight: NDArray[np.float64] = (
            share[features.y] if config.class_weight == "balanced" else np.ones(len(features.y))
        )

    def __len__(self) -> int:
        """Return the number of batches in an epoch. An incomplete last batch is dropped; its photos vary by epoch."""
        return max(1, len(self.rows) // self.size)

    def batch(self, epoch: int, number: int) -> tuple[Inputs, NDArray[np.float32]]:
        """Return batch ``number`` (from 0) of an epoch; it is the same for the same seed, epoch and number.

        Returns:
            The network's inputs, and the targets (B, C): the class probabilities times the class weight of the photo.
        """
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
        """Return a random crop of each photo, with its colours changed where the options ask for that."""
        dices = dice.spawn(len(rows))  # a generator for each photo, so that the order of the threads does not matter
        change = _CHANGE.get(self.config.augment)

        def view_of(i: int) -> NDArray[Any]:
            maps = self.views[int(dices[i].integers(len(self.views)))][self.features.digests[rows[i]]]
            view = _symmetric(_cropped(maps, self.crop, dices[i]), self.config.symmetry, dices[i])
            return change(view, dices[i]) if change else view

        if change is None:
            return [view_of(i) for i in range(len(rows))]
        with ThreadPoolExecutor(thread_limit()) as pool:
            return list(pool.map(view_of, range(len(rows))))


def _cropped(maps: NDArray[Any], side: int, dice: Dice) -> NDArray[Any]:
    """Return a random crop (side, side, C) of ``maps`` (h, w, C)."""
    top, left = dice.integers(0, [length - side + 1 for length in maps.shape[:2]])
    return maps[top : top + side, left : left + side]


def _symmetric(view: NDArray[Any], symmetry: str, dice: Dice) -> NDArray[Any]:
    """Return a crop or its mirror image; of ``all`` symmetries, a crop of pixels is rotated too.

    Activations are mirrored, which is nearly the same as to compute those of the mirror image. They are not rotated:
    convolutions have learned from mirror images, but not from rotated photos.
    """
    if symmetry == "none":
        return view
    if symmetry == "all" and view.dtype == np.uint8:
        view = np.rot90(view, int(dice.integers(4)))
    return view[:, ::-1] if dice.random() < 0.5 else view


def _mixup(inputs: Inputs, targets: NDArray[Any], alpha: float, dice: Dice) -> tuple[Inputs, NDArray[Any]]:
    """Blend each photo and its target with another photo of the batch; the share is Beta(alpha, alpha) distributed."""
    share = float(dice.beta(alpha, alpha))
    other = dice.permutation(len(targets))
    blended = [np.asarray(share * x + (1 - share) * x[other], np.float32) for x in inputs]
    return blended, share * targets + (1 - share) * targets[other]


def _cutmix(inputs: Inputs, targets: NDArray[Any], alpha: float, dice: Dice) -> tuple[Inputs, NDArray[Any]]:
    """Paste a rectangle of another photo of the batch into each photo, and blend the targets by its area.

    A second input, the features of the frozen blocks, has no height and width: it is blended by the area too.
    """
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
    """Return begin and end of a random piece of 0 to ``length``: ``side`` (0 to 1) times as long, cut at the ends."""
    centre, half = dice.integers(0, length), length * side / 2
    return max(0, round(centre - half)), min(length, round(centre + half))


def _colour(photo: NDArray[np.uint8], dice: Dice) -> NDArray[np.uint8]:
    """Change brightness, contrast and saturation of a photo (h, w, 3) at random."""
    image = Image.fromarray(np.ascontiguousarray(photo))
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = kind(image).enhance(float(dice.uniform(1 - _COLOUR_JITTER, 1 + _COLOUR_JITTER)))
    return np.asarray(image)


def _randaugment(photo: NDArray[np.uint8], dice: Dice) -> NDArray[np.uint8]:
    """Apply two random changes to a photo (h, w, 3) (E. Cubuk et al., RandAugment, 2019, arXiv:1909.13719)."""
    image = Image.fromarray(np.ascontiguousarray(photo))
    for number in dice.integers(0, len(_RANDAUGMENT), _RANDAUGMENT_N):
        image = _RANDAUGMENT[number](image, _RANDAUGMENT_M * float(dice.choice([-1, 1])))
    return np.asarray(image)


def _moved(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    """Return an affine transformation of an image; what comes from outside the image is grey."""
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
"""RandAugment's changes; each takes an image and a signed strength from -1 to 1."""

_CHANGE: dict[str, Callable[[NDArray[np.uint8], Dice], NDArray[np.uint8]]] = {
    "colour": _colour,
    "randaugment": _randaugment,
}
"""The changes of pixels by the value of the option ``augment``."""
