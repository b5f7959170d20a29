"""How many steps a training takes, and the learning rate of each.

In: the options, a number of steps, and a time budget if there is one. Out: `Pace`, which the training loop asks.
Why: a schedule must reach its end: a training that is cut off at a high learning rate answers worse than a shorter one.
Surprise: with a time budget the number of steps is estimated anew after each step, so that a training beside other work
ends in time, too, and with a low learning rate.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from regraft.config.finetuning import FinetuneConfig

_RECENT = 8
"""The number of steps whose median tells how fast the machine is now."""

_FEWEST = 3
"""The number of steps before which nothing is planned: the first one compiles the network."""

_BLENDS = 3
"""How often val is answered after the last epoch: for each blend with the initial weights."""


@dataclass(frozen=True, slots=True)
class Course:
    """A training whose length is a number of steps, not of epochs.

    Attributes:
        steps: the number of steps; a training that stopped after fewer steps can be resumed with more.
        period: the steps from one checkpoint to the next; each period is an `Epoch` of the history.
        rate: returns the learning rate of a step, by the step's number from 0.
        on_step: called after each step with its number, loss, learning rate and seconds.
    """

    steps: int
    period: int
    rate: Callable[[int], float]
    on_step: Callable[[int, float, float, float], None]


class Pace:
    """The steps of a training.

    Args:
        config: learning rate, warm-up and schedule.
        steps: the number of steps.
        period: the number of steps of an epoch.
        budget: the seconds that the training may take, from now on; 0 for any number.

    Attributes:
        steps: the number of steps, as it is planned now. With a budget it may change until the training ends.
    """

    def __init__(self, config: FinetuneConfig, steps: int, period: int, budget: float = 0.0) -> None:
        self.steps: int = steps
        self._config, self._all, self._period, self._budget = config, steps, period, budget
        self._start = self._last = perf_counter()
        self._recent: deque[float] = deque(maxlen=_RECENT)
        # The pause between two epochs and the answers to val, counted in steps: a slower machine needs longer for all.
        self._pause, self._validation = 0.0, 0.0
        self._unscaled: tuple[float, float] | None = None  # the same two in seconds, while too few steps are timed

    def rate(self, step: int) -> float:
        """Return the learning rate of ``step`` (from 0).

        It rises linearly during warm-up; then it falls to 0 along half a cosine, or to 1/10 and 1/100 in two steps.
        """
        warm = max(1, round(self._config.warmup * self.steps))
        if step < warm:
            return self._config.learning_rate * (step + 1) / warm
        share = (step - warm) / max(1, self.steps - warm)
        if self._config.schedule == "step":
            return self._config.learning_rate * 0.1 ** int(share * 3)
        return self._config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))

    def begins(self, validation: float) -> None:
        """Note that the steps of an epoch begin, after a pause in which val was answered in ``validation`` seconds.

        In the pause the epoch before is also saved and drawn.
        """
        now = perf_counter()
        self._unscaled, self._last = (now - self._last, validation), now
        self._scale()

    def stepped(self, done: int) -> None:
        """Note that so many steps are done, and plan the others."""
        now = perf_counter()
        self._recent.append(now - self._last)
        self._last = now
        if not self._budget or len(self._recent) < _FEWEST:
            return
        self._scale()
        left = (self._budget - (now - self._start)) / self._seconds - self._pause - _BLENDS * self._validation
        self.steps = min(self._all, done + max(0, int(left / (1 + self._pause / self._period))))

    def _scale(self) -> None:
        """Count the newest pause in steps, if it is known how long a step takes."""
        if self._unscaled and len(self._recent) >= _FEWEST:
            self._pause, self._validation = (seconds / self._seconds for seconds in self._unscaled)
            self._unscaled = None

    @property
    def _seconds(self) -> float:
        """The seconds that a step takes now."""
        return float(np.median(self._recent))
