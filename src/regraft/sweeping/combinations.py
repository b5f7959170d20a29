"""The options of a trial: those that have an effect, those of its head, and all of them as flags."""

from __future__ import annotations

import math
import shlex
from dataclasses import asdict
from typing import Any

from regraft.config.training import OF_ONE_HEAD, TrainConfig
from regraft.sweeping.trials import Options


def effective(options: Options) -> dict[str, str]:
    """Return the options without those that have no effect.

    These are the learning rate of a head that has none, and the head where blocks are thawed.
    """
    thawed = options["thaw"] not in ("", "0")
    head = "logistic" if thawed else options["head"] or "logistic"
    rate = options["learning_rate"] if thawed or head == "sgd" else ""
    return {**options, "head": head, "thaw": options["thaw"] or "0", "learning_rate": rate}


def head_options(train: TrainConfig, options: Options) -> dict[str, Any]:
    """Return the options of a frozen trial's head; the options of other heads have their defaults."""
    head, default = options["head"], TrainConfig()
    own = {name: getattr(train if of == head else default, name) for name, of in OF_ONE_HEAD.items()}
    rate = {"learning_rate": float(options["learning_rate"])} if head == "sgd" and options["learning_rate"] else {}
    return {"head": head, **own, **rate}


def flags_of(config: Any, default: Any) -> str:
    """Return the options that differ from the default, as command line flags."""
    changed = {k: v for k, v in asdict(config).items() if v != getattr(default, k)}
    return "".join(
        f" --{name.replace('_', '-')}" + ("" if value is True else f" {shlex.quote(str(value))}")
        for name, value in changed.items()
    )


def powers_of_ten(low: float, high: float) -> tuple[str, ...]:
    """Return the learning rates ``low``, 10 × ``low``, 100 × ``low``, … up to ``high``, as text."""
    count = math.floor(math.log10(high / low) + 1e-9) + 1
    return tuple(f"{low * 10**i:.2g}" for i in range(count))
