"""The Keras transfer-learning tutorial with few photos, on the draws of ``few_photos.py``, beside the default head.

Frozen EfficientNet-Lite0 with the same ImageNet weights at 224 px, random flip and rotation, Dropout, Dense, Adam, ten
epochs, as in ``keras_flow.py``. The network is frozen, so its outputs for ten distorted views of every photo are
computed once, and each epoch of each draw takes one of them. Needs the extra tensorflow.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
from _common import report
from few_photos import CONFIG, drawn, right, summary, with_interval
from numpy.typing import NDArray

from regraft.backbones.efficientnet_lite import EfficientNetLite
from regraft.features.features import Features
from regraft.heads.base import head_of
from regraft.photos.dataset import Dataset
from regraft.photos.images import decode
from regraft.training.preparation import Clock, prepare

SIZE, EPOCHS, BATCH = 224, 10, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--per-class", default="1,2,5,10,20,60,150,300")
    parser.add_argument("--draws", type=int, default=5)
    options = parser.parse_args()
    dataset = Dataset.open(Path(options.photos).resolve())
    dataset = replace(dataset, records=tuple(replace(record, split=None) for record in dataset.records))
    whole = prepare(dataset, CONFIG, Clock(), options.photos)
    plain, distorted = outputs(whole.dataset)
    result: dict[str, Any] = {}
    for count in map(int, options.per_class.split(",")):
        if count >= np.bincount(whole.features.y).min():
            continue
        rows = [one_draw(whole.features, plain, distorted, count, seed) for seed in range(options.draws)]
        ours, theirs = ([row[i] for row in rows] for i in (0, 1))
        gains = with_interval([a - b for a, b in rows])
        result[f"{count} a class"] = {"regraft": summary(ours), "keras": summary(theirs), "regraft - keras": gains}
    report(photos=len(dataset.records), draws=options.draws, **result)


def outputs(dataset: Dataset) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the outputs of the frozen network for the photos (N, D), and for views of them (EPOCHS, N, D)."""
    network = EfficientNetLite("efficientnet_lite0", SIZE).imagenet_model()
    base = keras.Model(network.input, network.get_layer("head_pool").output)
    distort = keras.Sequential([keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.2)])
    rows: list[list[NDArray[np.float32]]] = [[] for _ in range(EPOCHS + 1)]
    for start in range(0, len(dataset.records), BATCH):
        some = dataset.records[start : start + BATCH]
        photos = np.stack([np.asarray(decode(r.read()).resize((SIZE, SIZE))) for r in some]).astype(np.float32)
        views = [photos, *(np.asarray(distort(photos, training=True)) for _ in range(EPOCHS))]
        for number, view in enumerate(views):
            rows[number].append(np.asarray(base((view - 127.0) / 128.0, training=False)))
    found = np.stack([np.concatenate(parts) for parts in rows])
    return found[0], found[1:]


def one_draw(
    features: Features, plain: NDArray[np.float32], distorted: NDArray[np.float32], count: int, seed: int
) -> tuple[float, float]:
    """Return the accuracies of regraft's head and of the tutorial's on all photos that were not drawn."""
    chosen = drawn(features, count, seed)
    rest = np.delete(np.arange(len(features)), chosen)
    train = features.select(chosen.tolist())
    ours = right(head_of(CONFIG).fit(train, train.select([])).logits(features.x[rest]), features.y[rest])
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dropout(0.2), keras.layers.Dense(len(features.classes))]
    model = keras.Sequential([keras.Input((plain.shape[1],)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=loss)
    for epoch in distorted:
        model.fit(epoch[chosen], features.y[chosen], batch_size=BATCH, epochs=1, verbose=0)
    return ours, right(np.asarray(model(plain[rest])), features.y[rest])


if __name__ == "__main__":
    main()
