"""The options that decide which classifier comes out of the same photos.

In: keyword arguments, a TOML file, or flags. Out: `TrainConfig`, checked.
Why: a run records these options, so that it can be made again.
Surprise: an option of one head is refused with another head, since it would have no effect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self

from regraft.config.features import FeatureConfig
from regraft.config.values import from_dict
from regraft.errors import ConfigError

OF_ONE_HEAD = {"learning_rate": "sgd", "steps": "sgd", "batch_size": "sgd"}
"""The options that one head alone has, each with the name of the head."""


_FOLDS = 5
"""The default number of folds."""

_MANY = 2000
"""From so many photos on, a test side of a tenth measures an accuracy of 90 % to within 4 points, and sides cost less
time than folds."""

MOST_FOLDS = 100
"""The largest number of folds; each fold is a training of its own."""


@dataclass(frozen=True, slots=True)
class HeadConfig(FeatureConfig):
    """The head: which one is trained on the features, and how."""

    heading: ClassVar[str] = "head"

    head: str = "logistic"
    """Head that is trained on the features: logistic (logistic regression), kernel (kernel logistic regression, often
    more accurate with hundreds of photos a class; exports are 10 to 20 MB larger), discriminant (linear discriminant
    analysis, for very many photos or classes), prototype (nearest class mean), knn (nearest neighbours), or sgd
    (logistic regression by gradient descent)."""

    class_weight: Literal["none", "balanced", "logit-adjusted"] = "none"
    """How classes of different sizes count: balanced gives every class the same total weight in the loss;
    logit-adjusted subtracts the logarithm of each class's share of the photos from the logits. Both find more photos of
    rare classes, and take more photos of common classes for rare ones."""

    learning_rate: float = 0.01
    """Learning rate (head sgd only)."""

    steps: int = 4000
    """Number of gradient descent steps (head sgd only)."""

    batch_size: int = 100
    """Batch size; 0 for all training photos (head sgd only)."""


@dataclass(frozen=True, slots=True)
class TrainConfig(HeadConfig):
    """The options that decide which classifier comes out of the same photos."""

    heading: ClassVar[str] = "split and unknown photos"

    val: float = 0.1
    """Share of the photos for validation: they choose the strength of the head."""

    test: float = 0.1
    """Share of the photos for testing: they measure the result, and nothing else."""

    folds: int | None = None
    """Number of folds: each photo is answered by a classifier that was not trained on it, so that all photos measure
    the result; then a classifier is trained on all photos. 0 for a train, a val and a test side. By default 5 folds for
    fewer than 2,000 photos, and sides for more, or where --val or --test is not 0.1. Photos that come with sides of
    their own keep them."""

    salt: str = ""
    """Seed of the split or of the folds: any text; another text draws another split."""

    reject: float = 0.05
    """Share of the validation photos that may be answered with *none of these*; with 0 that is never the answer."""

    def __post_init__(self) -> None:
        """Check the types of the values, and what no type can say."""
        FeatureConfig.__post_init__(self)  # with slots, super() would not find its class
        if not (min(self.val, self.test) >= 0 and self.val + self.test < 1):  # so that NaN is refused too
            raise ConfigError(f"val {self.val} and test {self.test} must be at least 0 and leave something to train on")
        if self.folds == 1 or not 0 <= (self.folds or 0) <= MOST_FOLDS:
            raise ConfigError(f"folds {self.folds}: wanted 0 for none, or 2 to {MOST_FOLDS}")
        if not 0 <= self.reject < 0.5:
            raise ConfigError(f"reject {self.reject:g} is not between 0 and 0.5")
        if self.class_weight not in ("none", "balanced", "logit-adjusted"):
            raise ConfigError(f"unknown class weight {self.class_weight!r}; there is none, balanced, logit-adjusted")
        for name, head in OF_ONE_HEAD.items():
            value = getattr(self, name)
            if value != type(self).__dataclass_fields__[name].default and self.head != head:
                raise ConfigError(f"{name} {value!r} works with the head {head!r}, not {self.head!r}")
        if not 0 < self.learning_rate < math.inf or self.steps < 1 or self.batch_size < 0:
            raise ConfigError(
                f"learning_rate {self.learning_rate:g}, steps {self.steps} and batch_size {self.batch_size}: wanted "
                "more than 0, at least 1, and at least 0"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the options of TOML or JSON values. Raises ConfigError for a name that is no option."""
        return from_dict(cls, values)

    def folds_for(self, photos: int) -> int:
        """Return the number of folds for a number of photos without sides of their own; 0 for sides."""
        if self.folds is not None:
            return self.folds
        default = TrainConfig.__dataclass_fields__
        has_sides = any(getattr(self, name) != default[name].default for name in ("val", "test"))
        return 0 if has_sides or photos >= _MANY else _FOLDS

    def to_toml(self) -> str:
        """Return the options as the text of a TOML file, which `read_toml` reads back."""
        import tomli_w

        return tomli_w.dumps({name: value for name, value in asdict(self).items() if value is not None})
