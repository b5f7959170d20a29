"""Thawed blocks and head as one network, and what it is trained on.

In: a backbone, how much of it to thaw, photos with their features. Out: a network, batches, a way to validate.
Why: training must begin exactly where the frozen classifier stands, and see each photo a little differently each time.
Surprise: features from below the cut do not change, so they come as a second input, from the feature cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft import _console
from regraft.accelerator import load_engine
from regraft.activations import Activations, extract_maps, extract_pixels
from regraft.augmentation import CROP, Augmented
from regraft.backbones import Backbone, load_backbone
from regraft.backbones._blocks import Upper, blocks, pooled_maps, upper
from regraft.config import FeatureConfig, FinetuneConfig, seconds_of
from regraft.dataset import ImageRecord
from regraft.errors import BackboneError, ConfigError
from regraft.features import Features
from regraft.heads import cross_entropy
from regraft.images import Transform
from regraft.keras_backend import devices
from regraft.optimisation import Inputs, Trainer
from regraft.probe import runs_bf16

_LARGER = 10 / 9
"""Training sees photos this much larger than the backbone does, so that a crop of them has room to move."""
_STEP = 1.3
"""How much larger each further view is."""


@dataclass(frozen=True)
class Photos:
    """What is trained on and validated with: records, and row for row their features."""

    records: tuple[ImageRecord, ...]
    features: Features
    train: tuple[int, ...]
    val: tuple[int, ...]


class Thawed:
    """A backbone's last blocks and a linear head, ready to train.

    Args:
        backbone: from which the weights come.
        head: weight (D, C) and bias (C,) to begin with.
        config: how much to thaw, and how.

    Attributes:
        whole: the backbone's own network; `write_back` brings it what was learned.
        model: inputs: maps at the cut, and the features that do not change; output: logits.
        blocks: how many are thawed; 0 for all.
    """

    def __init__(
        self, backbone: Backbone, head: tuple[NDArray[np.float32], NDArray[np.float32]], config: FinetuneConfig
    ) -> None:
        import keras

        self.backbone = backbone
        whole = backbone.keras_model()
        if whole is None:
            raise BackboneError(f"{backbone.name} has no Keras model, so it stays frozen")
        self.whole = whole
        self.blocks = _count(whole, backbone, config.thaw)
        cut = blocks(whole)[-self.blocks] if self.blocks else whole.inputs[0]
        bf16 = keras.backend.backend() == "tensorflow" and runs_bf16()
        self.upper: Upper = upper(whole, cut, config.batch_norm, bf16)
        self.side = int(cut.shape[1])
        weight, bias = head
        start = keras.Input((None, None, cut.shape[-1]))
        rows, inputs = self.upper.model(start), [start]
        if self.upper.kept:
            inputs.append(keras.Input((self.upper.kept,)))
            rows = keras.layers.Concatenate()([inputs[1], rows])
        if config.dropout:
            rows = keras.layers.Dropout(config.dropout, seed=config.seed)(rows)
        self.dense = keras.layers.Dense(len(bias), dtype="float32", name="head")
        self.model = keras.Model(inputs, self.dense(rows))
        self.dense.set_weights([weight, bias])

    def load(self, photos: Photos, features: FeatureConfig, config: FinetuneConfig, trained: str = "") -> None:
        """Compute what is not cached of the maps: of train in larger sizes.

        Args:
            photos: the photos of the run.
            features: the options of the engine.
            config: the options of the training.
            trained: what the run was computed in, ``bf16`` or ``f32``.

        Raises:
            ConfigError: the maps take more than ``config.disk`` gigabytes.
        """
        self.photos, self._trained = photos, trained
        size = self.backbone.transform.size
        larger = [max(size + 32, round(size * _LARGER * _STEP**i / 32) * 32) for i in range(config.views)]
        train = [photos.records[i] for i in photos.train]
        val = [photos.records[i] for i in photos.val]
        self._train = [self._maps(train, one, features, config.disk) for one in larger]
        self._val = self._maps(val, size, features, config.disk)

    def _maps(self, records: list[ImageRecord], size: int, features: FeatureConfig, disk: float) -> Activations:
        options = self.backbone.options
        wanted = {key: getattr(options, key) for key in ("stages", "weights", "pixels", "tuned")}
        if not self.blocks:
            return extract_pixels(records, replace(self.backbone.transform, size=size), disk)
        trunk = load_backbone(self.backbone.name, size, thawed=self.blocks, **wanted)
        return extract_maps(records, load_engine(trunk, features, trained=self._trained), disk)

    def inputs(self, maps: NDArray[Any], rows: NDArray[np.int64]) -> Inputs:
        """What the model takes for maps (B, h, w, C) of the photos at ``rows``."""
        found = scaled(maps, self.backbone.transform) if not self.blocks else maps.astype(np.float32)
        return [found, self.photos.features.x[rows, : self.upper.kept]][: len(self.model.inputs)]

    def validate(self) -> tuple[float, float, float]:
        """Cross-entropy, top-1 and top-5 on val, without augmentation; NaN where there is no val."""
        rows = np.array([i for i in self.photos.val if self.photos.records[i].digest in self._val], np.int64)
        if not len(rows):
            return float("nan"), float("nan"), float("nan")
        found = []
        for part in np.array_split(rows, max(1, len(rows) // 64)):
            maps = np.stack([self._val[self.photos.records[i].digest] for i in part])
            found.append(np.asarray(self.model.predict_on_batch(self.inputs(maps, part)), np.float32))
        logits, y = np.concatenate(found), self.photos.features.y[rows]
        ranked = np.argsort(-logits, axis=1)
        top5 = float((ranked[:, :5] == y[:, np.newaxis]).any(axis=1).mean())
        return cross_entropy(logits, y), float((ranked[:, 0] == y).mean()), top5

    def train_batches(self, config: FinetuneConfig) -> Augmented:
        """Batches of the training photos. Raises ConfigError for colours where there are only maps."""
        if config.augment != "crop" and self.blocks:
            raise ConfigError(f"--augment {config.augment} changes pixels; type --thaw all with it")
        photos = self.photos
        return Augmented(self._train, photos.features, photos.train, self.side, self.inputs, config, devices())


def affordable(
    backbone: Backbone, head: tuple[NDArray[np.float32], NDArray[np.float32]], config: FinetuneConfig, photos: int
) -> str:
    """As many of the last resolution's blocks as can be trained in ``budget``, by a few steps of each on noise."""
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
        told = f"training {count} {'blocks' if count > 1 else 'block'} takes about {seconds:.0f} s"
        if seconds <= budget or count == 1:
            (_console.warn if seconds > budget else _console.note)(f"{told}, {config.budget} are allowed")
            return str(count)
        _console.note(f"{told}: too long")
        count -= 1


def scaled(photos: NDArray[Any], transform: Transform) -> NDArray[np.float32]:
    """Photos (N, h, w, 3) uint8 as the backbone's network wants them."""
    ordered = photos[..., ::-1] if transform.channel_order == "BGR" else photos
    return np.asarray((ordered - np.array(transform.mean)) / np.array(transform.std), np.float32)


def _count(network: Any, backbone: Backbone, thaw: str) -> int:
    """How many blocks ``thaw`` means, said aloud; 0 for all. Raises BackboneError where there is no such stage."""
    if thaw == "all":
        return 0
    sides = [int(cut.shape[1]) for cut in blocks(network)]
    if thaw.isdigit():
        count = int(thaw)
        if count > len(sides):
            raise BackboneError(f"there are {len(sides)} blocks to thaw, not {count}; or type --thaw all")
    else:
        maps = [int(x.shape[1]) for x in pooled_maps(network)]
        names = backbone.stages
        wanted = thaw.removeprefix("stage:") if thaw != "auto" else names[-1]
        if wanted not in names:
            raise BackboneError(f"there is no stage {wanted!r}; there is {', '.join(names)}")
        side = maps[names.index(wanted)]
        below = [i for i, s in enumerate(sides) if s > side]
        count = len(sides) - below[-1] if below else len(sides)
    _console.note(f"thawed: the last {count} of {len(sides)} blocks, from maps of {sides[-count]} x {sides[-count]}")
    return count
