"""TensorFlow as it is used here: imported without its talk; one step of training on its CPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft import _console
from regraft._files import set_environment

Step = Callable[[list[NDArray[np.float32]], NDArray[np.float32]], tuple[float, float, float]]


def quiet_tensorflow() -> Any:
    """The module ``tensorflow``, which else logs to stderr when it is imported and when it first computes."""
    set_environment("TF_CPP_MIN_LOG_LEVEL", "3")
    with _console.silenced():
        import tensorflow
    return tensorflow


def tensorflow_has_gpu() -> bool:
    """Whether it sees one."""
    import tensorflow

    return bool(tensorflow.config.list_physical_devices("GPU"))


def tensorflow_step(model: Any, loss: Any) -> Step:
    """A function that takes one step and tells loss, top-1 and top-5: a part of the batch for each core.

    Many of its gradient kernels use one core only: side by side they gave 88 photos/s where one batch gave 63.
    """
    import tensorflow

    parts = min(4, os.cpu_count() or 1)
    variables = model.trainable_variables

    def part_of(inputs: Any, targets: Any) -> Any:
        with tensorflow.GradientTape() as tape:
            logits = model(inputs, training=True)
            value = loss(targets, logits)
        goal = tensorflow.argmax(targets, 1)
        hits = [tensorflow.math.in_top_k(goal, logits, k) for k in (1, min(5, logits.shape[1]))]
        told = [value, *(tensorflow.reduce_mean(tensorflow.cast(hit, "float32")) for hit in hits)]
        return told, tape.gradient(value, [variable.value for variable in variables])

    def step(inputs: Any, targets: Any) -> Any:
        count = parts if targets.shape[0] % parts == 0 else 1
        pieces = [tensorflow.split(x, count) for x in inputs]
        goals = tensorflow.split(targets, count)
        done = [part_of([x[i] for x in pieces], goals[i]) for i in range(count)]
        told, gradients = ([sum(part) / count for part in zip(*kind, strict=True)] for kind in zip(*done, strict=True))
        model.optimizer.apply(gradients, variables)
        return told

    compiled = tensorflow.function(step)

    def run(inputs: list[NDArray[np.float32]], targets: NDArray[np.float32]) -> tuple[float, float, float]:
        value, top1, top5 = compiled([tensorflow.constant(x) for x in inputs], tensorflow.constant(targets))
        return float(value), float(top1), float(top5)

    return run
