"""Fine-tuning as people write it with Keras: the process that `regraft finetune` is timed against.

From a run of regraft, so that both begin alike: its network and head, the same layers thawed, batch normalisation
frozen, ``model.fit`` over ``tf.data`` from pixels with random crops and mirroring, AdamW with a cosine.
Run by ``finetuning.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import time

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("sides")
    options = parser.parse_args()
    start = time.perf_counter()
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras
    import tensorflow as tf

    from regraft.backbones.blocks import cut_of, upper
    from regraft.classifiers.classifier import Classifier
    from regraft.config.finetuning import FinetuneConfig

    config, blocks = FinetuneConfig(), 5
    classifier = Classifier.load(options.run)
    transform, size = classifier.backbone.transform, classifier.backbone.transform.size
    base = classifier.backbone.keras_model()
    assert base is not None
    thawed = {id(layer) for layer, _, _ in upper(base, cut_of(base, blocks), "frozen", False).layers}
    for layer in base.layers:
        layer.trainable = id(layer) in thawed

    def photos(side: str, larger: int) -> tf.data.Dataset:
        return keras.utils.image_dataset_from_directory(
            f"{options.sides}/{side}",
            class_names=list(classifier.classes),
            label_mode="categorical",
            image_size=(larger, larger),
            crop_to_aspect_ratio=True,
            batch_size=config.batch_size,
            shuffle=side == "train",
            seed=1,
        )

    def scaled(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return (x - np.array(transform.mean, np.float32)) / np.array(transform.std, np.float32), y

    def varied(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x = tf.image.random_crop(x, (tf.shape(x)[0], size, size, 3))
        return scaled(tf.image.random_flip_left_right(x), y)

    train = photos("train", round(size * 10 / 9 / 32) * 32).map(varied, tf.data.AUTOTUNE).prefetch(2)
    val, test = (photos(side, size).map(scaled, tf.data.AUTOTUNE).prefetch(2) for side in ("val", "test"))
    inputs = keras.Input((size, size, 3))
    head = keras.layers.Dense(len(classifier.classes))
    model = keras.Model(inputs, head(base(inputs, training=False)))
    state = classifier.head.state()
    head.set_weights([state["weight"], state["bias"]])
    steps = config.epochs * len(train)
    warmup = round(config.warmup * steps)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, warmup_target=config.learning_rate, warmup_steps=warmup
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, clipnorm=1.0),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    ready = time.perf_counter()
    history = model.fit(train, validation_data=val, epochs=config.epochs, verbose=0)
    fitted = time.perf_counter()
    _, accuracy = model.evaluate(test, verbose=0)
    print(
        json.dumps(
            {
                "test": accuracy,
                "val": history.history["val_accuracy"],
                "fit_s": round(fitted - ready, 1),
                "seconds": round(time.perf_counter() - start, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
