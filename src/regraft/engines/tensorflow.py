"""Import TensorFlow without its log messages, and run single training steps with it on the CPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.foundation import console
from regraft.foundation.files import set_environment

Step = Callable[[list[NDArray[np.float32]], NDArray[np.float32]], tuple[float, float, float]]
"""A training step: takes the inputs and the targets of a batch, returns loss, top-1 and top-5 accuracy."""


def quiet_tensorflow() -> Any:
    """Return the module ``tensorflow``, imported without the messages that it usually logs to stderr."""
    set_environment("TF_CPP_MIN_LOG_LEVEL", "3")
    with console.silenced():
        import tensorflow
    return tensorflow


def tensorflow_has_gpu() -> bool:
    """Return whether TensorFlow can use a GPU on this machine."""
    import tensorflow

    return bool(tensorflow.config.list_physical_devices("GPU"))


def tensorflow_step(model: Any, loss: Any) -> Step:
    """Return a function that trains a network on one batch.

    The batch is split into up to four parts, one per CPU core, whose gradients are computed in parallel and averaged.
    Many gradient kernels of TensorFlow use one core only: in parallel, training ran at 88 photos/s instead of 63.

    Args:
        model: a compiled Keras network on the TensorFlow backend.
        loss: a Keras loss of (targets, logits).

    Returns:
        A function of (inputs, targets) that updates the weights. It returns the loss, the top-1 accuracy and the top-5
        accuracy of the batch (the last with fewer than 5 if there are fewer classes). Targets have the shape
        (photos, classes).
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
        metrics = [value, *(tensorflow.reduce_mean(tensorflow.cast(hit, "float32")) for hit in hits)]
        return metrics, tape.gradient(value, [variable.value for variable in variables])

    def step(inputs: Any, targets: Any) -> Any:
        count = parts if targets.shape[0] % parts == 0 else 1
        pieces = [tensorflow.split(x, count) for x in inputs]
        goals = tensorflow.split(targets, count)
        done = [part_of([x[i] for x in pieces], goals[i]) for i in range(count)]
        metrics, gradients = (
            [sum(part) / count for part in zip(*kind, strict=True)] for kind in zip(*done, strict=True)
        )
        model.optimizer.apply(gradients, variables)
        return metrics

    compiled = tensorflow.function(step)

    def run(inputs: list[NDArray[np.float32]], targets: NDArray[np.float32]) -> tuple[float, float, float]:
        value, top1, top5 = compiled([tensorflow.constant(x) for x in inputs], tensorflow.constant(targets))
        return float(value), float(top1), float(top5)

    return run
