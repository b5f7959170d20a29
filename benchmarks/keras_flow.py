"""The Keras transfer-learning tutorial as people run it: the process that regraft is timed against.

Frozen EfficientNet-Lite0 with the same ImageNet weights, ``image_dataset_from_directory``, random flip and rotation,
Dropout, Dense, Adam. Stops when val accuracy first reaches ``--until``, or after ``--epochs``.
Run by ``cold.py``, which prepares ``FOLDER/train`` and ``FOLDER/val`` with regraft's own split.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--until", type=float, default=2.0)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    start = time.perf_counter()
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras

    from regraft.backbones.efficientnet_lite import EfficientNetLite

    size = 224

    def photos(side: str, shuffle: bool) -> object:
        data = keras.utils.image_dataset_from_directory(
            f"{options.folder}/{side}", image_size=(size, size), batch_size=32, shuffle=shuffle, seed=1
        )
        return data.prefetch(2)

    train, val = photos("train", True), photos("val", False)
    classes = len(list(Path(options.folder, "train").iterdir()))
    network = EfficientNetLite("efficientnet_lite0", size)
    base = keras.Model(*_until_head(network.imagenet_model()))
    base.trainable = False
    inputs = keras.Input((size, size, 3))
    x = keras.layers.RandomFlip("horizontal")(inputs)
    x = keras.layers.RandomRotation(0.2)(x)
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128)(x)
    x = base(x, training=False)
    x = keras.layers.Dropout(0.2)(x)
    model = keras.Model(inputs, keras.layers.Dense(classes)(x))
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history: list[float] = []

    class Stop(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, _epoch: int, logs: dict[str, float] | None = None) -> None:
            history.append(round((logs or {})["val_accuracy"], 4))
            self.model.stop_training = history[-1] >= options.until

    model.fit(train, validation_data=val, epochs=options.epochs, callbacks=[Stop()], verbose=0)
    print(json.dumps({"val_accuracy": history, "seconds": round(time.perf_counter() - start, 1)}))


def _until_head(model: object) -> tuple[object, object]:
    return model.input, model.get_layer("head_pool").output  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
