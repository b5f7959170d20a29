"""The options that decide which weights fine-tuning finds.

In: keyword arguments, a TOML file, or flags. Out: `FinetuneConfig`, checked.
Why: a fine-tuning that was stopped goes on only with the options with which it began.
Surprise: the options are in three groups, each a class, but in Python and in TOML files they stand side by side.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from regraft.config.features import EXPERT, seconds_of
from regraft.config.training import MOST_FOLDS
from regraft.config.values import from_dict, require_types
from regraft.errors import ConfigError, option


@dataclass(frozen=True, slots=True)
class FoldsConfig:
    """On which photos the result is measured."""

    heading: ClassVar[str] = "measuring"

    folds: int = 0
    """Number of folds K: K further fine-tunings, each without one fold of the photos, measure the result on all photos,
    which takes K + 1 times as long. The run that is kept is fine-tuned on all photos but those of val. 0 measures on
    the test side."""


@dataclass(frozen=True, slots=True)
class ThawConfig(FoldsConfig):
    """Which part of the backbone is trained, and on what."""

    heading: ClassVar[str] = "what is trained"

    thaw: str = "auto"
    """How much of the backbone to unfreeze: a number of blocks at its end, stage:NAME and all that follows, all
    (training from pixels), or batch-norm (the batch normalisation of all layers, from pixels, while all convolutions
    stay frozen); auto is the blocks of the last resolution."""

    budget: str = ""
    """Longest training time, such as 90s, 10m or 2h: with --thaw auto, as many blocks are unfrozen as it allows; if the
    machine becomes slower meanwhile, fewer steps are taken. The time for activations does not count."""

    batch_norm: Literal["frozen", "trained", "statistics"] = "frozen"
    """Batch normalisation of the unfrozen blocks: frozen, trained, or only its moving statistics are updated."""

    disk: float = 4.0
    """Largest size of the cached activations on disk, in gigabytes."""

    backend: Literal["auto", "tensorflow", "jax"] = "auto"
    """Keras backend that trains; auto is TensorFlow where it is installed, else JAX."""

    views: int = field(default=1, metadata=EXPERT)
    """Number of image sizes at which each photo is seen, each about 1.3 times the one before; time and disk grow with
    each."""

    histograms: bool = field(default=False, metadata=EXPERT)
    """Also write histograms of the trained weights to TensorBoard, once per epoch."""


@dataclass(frozen=True, slots=True)
class OptimizerConfig(ThawConfig):
    """How the weights are optimised, and how long."""

    heading: ClassVar[str] = "optimizer"

    epochs: int = 5
    """Number of passes over the training photos."""

    batch_size: int = 32
    """Batch size; it is halved automatically where memory is too small."""

    learning_rate: float = 3e-4
    """Peak learning rate of the thawed blocks."""

    head_learning_rate: float = 3e-4
    """Peak learning rate of the head, which starts as a linear head on the frozen features."""

    optimizer: Literal["adamw", "sgd", "rmsprop"] = "adamw"
    """Optimizer: AdamW, SGD with Nesterov momentum 0.9, or RMSprop as Inception was trained (momentum 0.9, epsilon
    1)."""

    schedule: Literal["cosine", "step"] = "cosine"
    """Learning rate schedule: cosine decay, or division by ten after each third of the steps."""

    warmup: float = 0.1
    """Share of all steps in which the learning rate rises linearly to its peak."""

    weight_decay: float = 0.05
    """Decoupled weight decay."""

    patience: int = 3
    """Early stopping: the number of epochs without a lower validation loss after which training stops."""

    seed: int = 0
    """Random seed of the order of the photos and of the augmentation."""


@dataclass(frozen=True, slots=True)
class FinetuneConfig(OptimizerConfig):
    """The options that decide which weights fine-tuning finds: of these groups, and augmentation and regularisation."""

    heading: ClassVar[str] = "augmentation and regularisation"

    augment: Literal["crop", "colour", "randaugment"] = "crop"
    """Augmentation: random crops and symmetric images; with --thaw all also colour, or two changes of RandAugment."""

    symmetry: Literal["mirror", "all", "none"] = "mirror"
    """Images of a photo that have the same class: its mirror image; all eight rotations and mirror images, for photos
    without an up, from above or through a microscope (four times the activations); or none, as for written text. For a
    run that was trained with symmetry all, mirror is all."""

    mixup: float = 0.2
    """Alpha of mixup, which blends pairs of photos; 0 for none."""

    cutmix: float = 0.0
    """Alpha of CutMix, which pastes a piece of one photo into another; 0 for none. Together with mixup, each has half
    of the steps."""

    label_smoothing: float = 0.0
    """Label smoothing: probability mass that is spread over all classes."""

    dropout: float = 0.0
    """Dropout rate on the features."""

    class_weight: Literal["none", "balanced"] = "none"
    """Weights of the classes in the loss: balanced gives every class the same total weight."""

    def __post_init__(self) -> None:
        """Check the types of the values, and what no type can say."""
        require_types(self)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"unknown {name} {getattr(self, name)!r}; there is {', '.join(choices)}")
        if not re.fullmatch(r"auto|all|batch-norm|[1-9]\d*|stage:.+", self.thaw):
            raise ConfigError(
                f"thaw {self.thaw!r} is neither a number of blocks nor stage:NAME, all, batch-norm or auto"
            )
        if self.folds == 1 or not 0 <= self.folds <= MOST_FOLDS:
            raise ConfigError(f"folds {self.folds}: wanted 0 for none, or 2 to {MOST_FOLDS}")
        if self.folds and self.budget:
            raise ConfigError(f"{option('budget')} may thaw other blocks in each fold; type {option('thaw')} instead")
        if self.budget and seconds_of(self.budget) and self.thaw != "auto":
            raise ConfigError(f"{option('budget')} chooses how many blocks to thaw; leave {option('thaw')} out")
        for name, (is_possible, wanted) in _RANGES.items():
            if not is_possible(getattr(self, name)):
                raise ConfigError(f"{name} is {getattr(self, name)}; wanted {wanted}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the options of TOML or JSON values. Raises ConfigError for a name that is no option."""
        return from_dict(cls, values)


_Range = tuple[Callable[[float], bool], str]
_SHARE: _Range = (lambda value: 0 <= value < 1, "at least 0 and below 1")
_COUNT: _Range = (lambda value: value >= 1, "at least 1")
_NOT_NEGATIVE: _Range = (lambda value: 0 <= value < math.inf, "at least 0")
_POSITIVE: _Range = (lambda value: 0 < value < math.inf, "more than 0")
_RANGES = {
    **dict.fromkeys(("epochs", "batch_size", "patience", "views"), _COUNT),
    **dict.fromkeys(("warmup", "label_smoothing", "dropout"), _SHARE),
    **dict.fromkeys(("mixup", "cutmix", "weight_decay", "head_learning_rate"), _NOT_NEGATIVE),
    **dict.fromkeys(("learning_rate", "disk"), _POSITIVE),
}
_CHOICES = {
    "batch_norm": ("frozen", "trained", "statistics"),
    "optimizer": ("adamw", "sgd", "rmsprop"),
    "schedule": ("cosine", "step"),
    "augment": ("crop", "colour", "randaugment"),
    "symmetry": ("mirror", "all", "none"),
    "class_weight": ("none", "balanced"),
    "backend": ("auto", "tensorflow", "jax"),
}
