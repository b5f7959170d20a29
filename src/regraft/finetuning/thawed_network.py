"""The thawed blocks of a backbone and the head as one Keras network, with its training batches and its validation.

In: a backbone, the number of blocks to thaw, photos with their features. Out: a network, batches, val figures.
Why: training must begin with exactly the frozen classifier, and see a new augmentation of each photo in each epoch.
Surprise: features of the frozen blocks do not change; they are a second input of the network, from the feature cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.base import Backbone, load_backbone
from regraft.backbones.blocks import Upper, blocks, pooled_maps, upper
from regraft.backbones.symmetric import of_one_image
from regraft.config.features import FeatureConfig, seconds_of
from regraft.config.finetuning import FinetuneConfig
from regraft.engines.base import load_engine
from regraft.engines.keras_backend import devices
from regraft.engines.probe import runs_bf16
from regraft.errors import BackboneError, ConfigError, option
from regraft.features.features import Features
from regraft.finetuning.activations import Activations, extract_maps, extract_pixels
from regraft.finetuning.augmentation import CROP, Augmented
from regraft.finetuning.training_loop import Inputs, Trainer
from regraft.foundation import console
from regraft.heads.base import cross_entropy
from regraft.photos.dataset import ImageRecord
from regraft.photos.images import Transform

_LARGER = 10 / 9
"""Train photos are scaled to this times the backbone's size, so that random crops can differ."""
_VIEW_RATIO = 1.3
"""The size of each further view, as a multiple of the view before."""


@dataclass(frozen=True)
class Photos:
    """The photos of a fine-tuning.

    Attributes:
        records: the N photos.
        features: their features ``(N, D)``, in the same order.
        train: the indices of the train photos.
        val: the indices of the val photos.
    """

    records: tuple[ImageRecord, ...]
    features: Features
    train: tuple[int, ...]
    val: tuple[int, ...]


class Thawed:
    """The last blocks of a backbone and a linear head as one network, ready to train.

    Args:
        backbone: the backbone, with its pretrained weights. If it has symmetric images, the network sees one at a time.
        head: the weight (D, C) and bias (C,) with which the head begins.
        config: how many blocks to thaw, dropout rate and batch normalisation.

    Attributes:
        whole: the Keras model of the whole backbone; ``upper.write_back`` copies the trained weights into it.
        upper: the thawed part of the backbone.
        side: the height and width of the activations, or pixels, that go into the network.
        model: the Keras model. Inputs: activations (B, h, w, C) of the last frozen block, and features (B, K) of the
            frozen blocks where the backbone has some. Output: logits (B, C).
        dense: the head's layer in ``model``.
        blocks: the number of thawed blocks; 0 where the whole backbone is thawed.

    Raises:
        BackboneError: the backbone has no Keras model, or not the blocks that are to be thawed.
    """

    def __init__(
        self, backbone: Backbone, head: tuple[NDArray[np.float32], NDArray[np.float32]], config: FinetuneConfig
    ) -> None:
        import keras

        self.backbone: Backbone = of_one_image(backbone)
        whole = self.backbone.keras_model()
        if whole is None:
            raise BackboneError(f"{backbone.name} has no Keras model, so it cannot be fine-tuned")
        self.whole = whole
        self.blocks: int = _count(whole, backbone, config.thaw)
        cut = blocks(whole)[-self.blocks] if self.blocks else whole.inputs[0]
        bf16 = keras.backend.backend() == "tensorflow" and runs_bf16()
        norms_only = config.thaw == "batch-norm"
        self.upper: Upper = upper(whole, cut, "trained" if norms_only else config.batch_norm, bf16, norms_only)
        self.side: int = int(cut.shape[1])
        weight, bias = head
        start = keras.Input((None, None, cut.shape[-1]))
        rows, inputs = self.upper.model(start), [start]
        if self.upper.kept:
            inputs.append(keras.Input((self.upper.kept,)))
            rows = keras.layers.Concatenate()([inputs[1], rows])
        if config.dropout:
            rows = keras.layers.Dropout(config.dropout, seed=config.seed)(rows)
        self.dense: Any = keras.layers.Dense(len(bias), dtype="float32", name="head")
        self.model: Any = keras.Model(inputs, self.dense(rows))
        self.dense.set_weights([weight, bias])

    def load(self, photos: Photos, features: FeatureConfig, config: FinetuneConfig, trained: str = "") -> None:
        """Load the activations of train (in larger sizes, to be cropped) and val; compute those that are not cached.

        Args:
            photos: the photos of the run.
            features: the options of the engine.
            config: the options of the training.
            trained: the precision in which the run was computed, ``bf16`` or ``f32``.

        Raises:
            ConfigError: the activations take more than ``config.disk`` gigabytes.
        """
        self.photos: Photos = photos
        self._trained = trained
        size = self.backbone.transform.size
        larger = [max(size + 32, round(size * _LARGER * _VIEW_RATIO**i / 32) * 32) for i in range(config.views)]
        train = [photos.records[i] for i in photos.train]
        val = [photos.records[i] for i in photos.val]
        turns = range(4 if config.symmetry == "all" and self.blocks else 1)  # pixels are rotated when they are read
        self._train = [self._maps(train, one, features, config.disk, turn) for one in larger for turn in turns]
        self._val = self._maps(val, size, features, config.disk)

    def _maps(
        self, records: list[ImageRecord], size: int, features: FeatureConfig, disk: float, turns: int = 0
    ) -> Activations:
        """Return the network's input for photos scaled to ``size``: activations, or pixels where all is thawed.

        Before activations are computed, the photos are rotated by so many quarter ``turns``.
        """
        options = self.backbone.options
        wanted = {key: getattr(options, key) for key in ("stages", "weights", "pixels", "tuned")}
        if not self.blocks:
            return extract_pixels(records, replace(self.backbone.transform, size=size), disk)
        trunk = load_backbone(self.backbone.name, size, thawed=self.blocks, **wanted)
        return extract_maps(records, load_engine(trunk, features, trained=self._trained), disk, turns)

    def inputs(self, maps: NDArray[Any], rows: NDArray[np.int64]) -> Inputs:
        """Return the inputs of ``model`` for activations or pixels (B, h, w, C) of the photos at ``rows`` (B,)."""
        found = scaled(maps, self.backbone.transform) if not self.blocks else maps.astype(np.float32)
        return [found, self.photos.features.x[rows, : self.upper.kept]][: len(self.model.inputs)]

    def validate(self) -> tuple[float, float, float]:
        """Return cross-entropy, top-1 and top-5 accuracy on val, without augmentation; NaN where there is no val."""
        rows = np.array([i for i in self.photos.val if self.photos.records[i].digest in self._val], np.int64)
        if not len(rows):
            return float("nan"), float("nan"), float("nan")
        found = []
        for part in np.array_split(rows, max(1, len(rows) // 64)):  # batches of 64 to 127 limit the memory
            maps = np.stack([self._val[self.photos.records[i].digest] for i in part])
            found.append(np.asarray(self.model.predict_on_batch(self.inputs(maps, part)), np.float32))
        features = self.photos.features
        logits, y = np.concatenate(found), features.y[rows]
        certainty = None if features.certainty is None else features.certainty[rows]
        ranked = np.argsort(-logits, axis=1)
        top5 = float((ranked[:, :5] == y[:, np.newaxis]).any(axis=1).mean())
        return cross_entropy(logits, y, certainty), float((ranked[:, 0] == y).mean()), top5

    def train_batches(self, config: FinetuneConfig) -> Augmented:
        """Return the training batches.

        Raises:
            ConfigError: an augmentation of colours is asked for, and the network starts from activations, not pixels.
        """
        if config.augment != "crop" and self.blocks:
            raise ConfigError(
                f"{option('augment')} {config.augment} changes pixels; type {option('thaw', 'all')} with it"
            )
        photos = self.photos
        return Augmented(self._train, photos.features, photos.train, self.side, self.inputs, config, devices())


def affordable(
    backbone: Backbone, head: tuple[NDArray[np.float32], NDArray[np.float32]], config: FinetuneConfig, photos: int
) -> str:
    """Return the number of blocks that can be trained within ``config.budget``, as a value of the option ``thaw``.

    The time is measured: for each number of blocks, a few training steps on noise. The number is at most the one that
    ``config.thaw`` names, and at least 1, also where one block takes longer than the budget (with a warning).

    Args:
        backbone: the backbone.
        head: the weight (D, C) and bias (C,) of the head.
        config: the options, with a budget.
        photos: the number of train photos.
    """
    budget, unlimited = seconds_of(config.budget), replace(config, budget="")
    count = Thawed(backbone, head, unlimited).blocks
    dice = np.random.default_rng(0)
    while True:
        thawed = Thawed(backbone, head, replace(unlimited, thaw=str(count)))
        side, size = max(1, round(thawed.side * CROP)), min(config.batch_size, photos)
        shapes = [(size, side, side, thawed.model.inputs[0].shape[-1]), (size, thawed.upper.kept)]
        inputs = [dice.random(shape, np.float32) for shape in shapes[: len(thawed.model.inputs)]]
        targets = np.eye(len(head[1]), dtype=np.float32)[dice.integers(0, len(head[1]), size)]
        trainer = Trainer(thawed.model, config, Path(), thawed.dense.variables)
        seconds = trainer.seconds_a_step(inputs, targets) * config.epochs * max(1, photos // size)
        message = f"training {count} {'blocks' if count > 1 else 'block'} takes about {seconds:.0f} s"
        if seconds <= budget or count == 1:
            (console.warn if seconds > budget else console.note)(f"{message}, the budget is {config.budget}")
            return str(count)
        console.note(f"{message}: more than the budget of {config.budget}")
        count -= 1


def scaled(photos: NDArray[Any], transform: Transform) -> NDArray[np.float32]:
    """Normalise photos (N, h, w, 3) in uint8 by the backbone's channel order, mean and standard deviation."""
    ordered = photos[..., ::-1] if transform.channel_order == "BGR" else photos
    return np.asarray((ordered - np.array(transform.mean)) / np.array(transform.std), np.float32)


def _count(network: Any, backbone: Backbone, thaw: str) -> int:
    """Return the number of blocks that the option ``thaw`` names, 0 for all, and print it.

    Raises:
        BackboneError: the backbone has not so many blocks, or no such stage.
    """
    if thaw in ("all", "batch-norm"):
        return 0
    sides = [int(cut.shape[1]) for cut in blocks(network)]
    if thaw.isdigit():
        count = int(thaw)
        if count > len(sides):
            raise BackboneError(
                f"there are {len(sides)} blocks to thaw, not {count}; to thaw all layers, type {option('thaw', 'all')}"
            )
    else:
        maps = [int(x.shape[1]) for x in pooled_maps(network)]
        names = backbone.stages
        wanted = thaw.removeprefix("stage:") if thaw != "auto" else names[-1]
        if wanted not in names:
            raise BackboneError(f"there is no stage {wanted!r}; choose from {', '.join(names)}")
        side = maps[names.index(wanted)]
        below = [i for i, s in enumerate(sides) if s > side]
        count = len(sides) - below[-1] if below else len(sides)
    console.note(
        f"thawed: the last {count} of {len(sides)} blocks, on activations of {sides[-count]} x {sides[-count]}"
    )
    return count
