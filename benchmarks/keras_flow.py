"""The Keras transfer-learning tutorial as people run it: the process that regraft is timed against.

Frozen EfficientNet-Lite0 with the same ImageNet weights, ``image_dataset_from_directory``, random flip and rotation,
Dropout, Dense, Adam. Stops when val accuracy first reaches ``--until``, or after ``--epochs``.
Run by ``against_keras.py``, which prepares ``FOLDER/train`` and ``FOLDER/val`` with regraft's own split.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras

from regraft.backbones.efficientnet_lite import EfficientNetLite

SIZE, EPOCHS = 224, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--until", type=float, default=2.0)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    start = time.perf_counter()
    train, val = photos(options.folder / "train", shuffle=True), photos(options.folder / "val", shuffle=False)
    model, _ = tutorial(len(train.class_names))
    history: list[float] = []

    class Stop(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, _epoch: int, logs: dict[str, float] | None = None) -> None:
            history.append(round((logs or {})["val_accuracy"], 4))
            self.model.stop_training = history[-1] >= options.until

    fit(model, train.prefetch(2), val.prefetch(2), 1e-3, options.epochs, [Stop()])
    print(json.dumps({"val_accuracy": history, "seconds": round(time.perf_counter() - start, 1)}))


def photos(folder: Path, shuffle: bool) -> Any:
    """Return the data set of the photos in a folder of class folders."""
    return keras.utils.image_dataset_from_directory(
        folder, image_size=(SIZE, SIZE), batch_size=32, shuffle=shuffle, seed=1
    )


def tutorial(classes: int) -> tuple[Any, Any]:
    """Return the tutorial's model, whose outputs are logits (N, classes), and the frozen network in it."""
    network = EfficientNetLite("efficientnet_lite0", SIZE).imagenet_model()
    base = keras.Model(network.input, network.get_layer("head_pool").output)
    base.trainable = False
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.RandomFlip("horizontal")(inputs)
    x = keras.layers.RandomRotation(0.2)(x)
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128)(x)
    x = base(x, training=False)
    x = keras.layers.Dropout(0.2)(x)
    return keras.Model(inputs, keras.layers.Dense(classes)(x)), base


def fit(model: Any, train: Any, val: Any, learning_rate: float, epochs: int, callbacks: list[Any]) -> None:
    """Train the layers of the model that are not frozen."""
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(train, validation_data=val, epochs=epochs, callbacks=callbacks, verbose=0)


if __name__ == "__main__":
    main()
