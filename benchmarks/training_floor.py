"""How near is a training step of fine-tuning to its floor, and where do its seconds go?

The floor is the thawed blocks' matrix products (each forward, and twice backward) and depthwise convolutions (forward, and
the gradient by their input) alone, on the same shapes, in the same precision, on the same cores, in the same run. Steps
and floors are timed in turns. Needs a run folder, whose backbone and head are taken, and the extra tensorflow.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _common import report

from regraft.classifiers.classifier import Classifier
from regraft.config.finetuning import FinetuneConfig
from regraft.engines.keras_backend import trainable_keras
from regraft.engines.probe import runs_bf16
from regraft.finetuning.augmentation import CROP
from regraft.finetuning.thawed_network import Thawed
from regraft.finetuning.training_loop import Trainer
from regraft.foundation.files import threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--thaw", default="auto")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    trainable_keras("tensorflow")
    config = FinetuneConfig(thaw=options.thaw)
    before = Classifier.load(Path(options.run))
    width, classes = before.backbone.num_features, len(before.classes)
    thawed = Thawed(before.backbone, (np.zeros((width, classes), np.float32), np.zeros(classes, np.float32)), config)
    side = round(thawed.side * CROP)
    step = training_step(thawed, config, side, classes)
    floor = floor_of(thawed.upper.model, config.batch_size, side)
    seconds = {name: [] for name in ("step", "floor")}
    for number in range(options.repeats + 2):
        for name, work in (("step", step), ("floor", floor)):
            start = time.perf_counter()
            work()
            if number > 1:  # the first two compile
                seconds[name].append(time.perf_counter() - start)
    median = {name: float(np.median(values)) for name, values in seconds.items()}
    report(
        blocks=thawed.blocks,
        side=side,
        photos_per_s={name: round(config.batch_size / value, 1) for name, value in median.items()},
        share_of_the_floor=round(median["floor"] / median["step"], 3),
        precision="bf16" if runs_bf16() else "f32",
    )


def training_step(thawed: Thawed, config: FinetuneConfig, side: int, classes: int) -> Callable[[], Any]:
    """One step of the training loop on noise."""
    dice = np.random.default_rng(0)
    shapes = [(config.batch_size, side, side, thawed.model.inputs[0].shape[-1]), (config.batch_size, thawed.upper.kept)]
    inputs = [dice.random(shape, np.float32) for shape in shapes[: len(thawed.model.inputs)]]
    targets = np.eye(classes, dtype=np.float32)[dice.integers(0, classes, config.batch_size)]
    trainer = Trainer(thawed.model, config, Path(), thawed.dense.variables)
    return lambda: trainer._step(inputs, targets)


def floor_of(network: Any, photos: int, side: int) -> Callable[[], Any]:
    """The products and convolutions of a step alone: as many parts at a time as the step has."""
    import keras
    import tensorflow as tf

    parts = min(4, threads())
    products, convolutions, sides = [], [], {id(network.inputs[0]): side}
    for layer in network.layers[1:]:
        given = layer.input[0] if isinstance(layer.input, list) else layer.input
        before = sides.get(id(given), 0)
        after = -(-before // layer.strides[0]) if hasattr(layer, "strides") and before else before
        sides[id(layer.output)] = after
        kind, rows = type(layer).__name__, photos // parts * after * after
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            convolutions.append((before, int(given.shape[-1]), layer.kernel_size[0], layer.strides[0]))
        elif kind in ("Pointwise", "Conv2D"):
            products.append((rows, int(given.shape[-1]), int(layer.output.shape[-1])))
    number = tf.bfloat16 if runs_bf16() else tf.float32
    # Each part has matrices and maps of its own: TensorFlow computes what is the same in two parts once.
    matrices = [
        [[tf.cast(tf.random.normal(shape), number) for shape in ((n, a), (a, b), (n, b))] for n, a, b in products]
        for _ in range(parts)
    ]
    maps = [
        [(tf.random.normal((photos // parts, s, s, c)), tf.random.normal((k, k, c, 1)), t) for s, c, k, t in convolutions]
        for _ in range(parts)
    ]

    def part(matrices: Any, maps: Any) -> list[Any]:
        found = []
        for x, w, g in matrices:
            found += [x @ w, tf.matmul(x, g, transpose_a=True), tf.matmul(g, w, transpose_b=True)]
        for x, kernel, stride in maps:
            how = {"strides": (1, stride, stride, 1), "padding": "SAME"}
            y = tf.nn.depthwise_conv2d(x, kernel, **how)
            back = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=x.shape, filter=kernel, out_backprop=y, **how
            )
            found += [y, back]
        return [tf.reshape(one, (-1,))[0] for one in found]

    compiled = tf.function(lambda: [part(*one) for one in zip(matrices, maps, strict=True)])
    return lambda: [float(one[0]) for one in compiled()]


if __name__ == "__main__":
    main()
