"""The options of a sweep: the values that are tried.

In: keyword arguments or flags. Out: `SweepConfig`, checked.
Why: each value stands for a training, so that a mistyped one must be told before the first.
Surprise: several values of one option are one text, with commas between them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from regraft.config.values import require_types
from regraft.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """The values that a sweep tries. Several values have commas between them; each is combined with every other."""

    heading: ClassVar[str] = "what is tried"

    backbone: str = "efficientnet_lite0"
    """Backbones; A+B tries the features of both side by side."""

    resolution: str = ""
    """Image sizes in pixels, or 288+416 for two side by side; by default the size that suits the backbone."""

    stages: str = ""
    """Sets of stages, with semicolons between sets: last;stage4,head. By default one stage of each resolution."""

    head: str = "logistic"
    """Heads on frozen features."""

    thaw: str = "0"
    """How much of the backbone to unfreeze: 0 for nothing, or what `finetune --thaw` takes. Fine-tuning starts from
    the head logistic."""

    learning_rate: str = ""
    """Learning rates of the unfrozen blocks and of the head sgd; or LOW..HIGH: each power of ten, then finer steps
    around the best."""

    trials: int | None = None
    """Number of trials, each drawn by Optuna from the results of those before, in place of all combinations; needs
    pip install 'regraft[sweep]'."""

    def __post_init__(self) -> None:
        """Check the types of the values, and what no type can say."""
        require_types(self)
        if self.trials is not None and self.trials < 1:
            raise ConfigError(f"trials is {self.trials}; wanted at least 1")
        for name in ("resolution", "learning_rate"):
            for value in re.split(r",|\.\.", getattr(self, name)):
                if value and not re.fullmatch(
                    r"\d*\.?\d+(e-?\d+)?" if name == "learning_rate" else r"\d+(\+\d+)*", value.strip()
                ):
                    raise ConfigError(f"{name} {value!r} is no number; several stand with commas between them")
        ends = self.learning_rate.split("..")
        is_range = len(ends) == 2 and all(ends) and "," not in self.learning_rate
        if len(ends) > 1 and not (is_range and 0 < self.rates[0] < self.rates[1]):
            raise ConfigError(f"learning_rate {self.learning_rate!r} is no range; wanted, for example, 1e-4..1e-1")

    def values(self, name: str) -> tuple[str, ...]:
        """Return the values to try of one option; an empty text stands for its default."""
        found = getattr(self, name).split(";" if name == "stages" else ",")
        return tuple(dict.fromkeys(value.strip() for value in found if value.strip())) or ("",)

    @property
    def rates(self) -> tuple[float, float]:
        """The lowest and the highest learning rate of a range LOW..HIGH."""
        low, _, high = self.learning_rate.partition("..")
        return float(low), float(high)
