"""The Keras tutorial of ``keras_flow.py``: python keras_peer.py MANIFEST TABLE WEIGHTS SEED frozen|thawed.

It runs in the environment of regraft, whose network has the same weights already. ``frozen`` is the tutorial's first
part. ``thawed`` goes on with its second: all layers are trained for as many epochs again, with Adam at 1e-5, while
batch normalisation stays as it is. `image_dataset_from_directory` wants class folders, which are made of links.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras
from _answers import Photo, arguments, read_fold, write_answers
from keras_flow import EPOCHS, fit, photos, tutorial


def main() -> None:
    manifest, table, _, seed, way = arguments()
    fold = read_fold(manifest)
    keras.utils.set_random_seed(int(seed))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side in ("train", "val", "test"):
            link(getattr(fold, side), fold.classes, folder / side)
        train = photos(folder / "train", shuffle=True).prefetch(2)
        val, test = (photos(folder / side, shuffle=False) for side in ("val", "test"))
        model, base = tutorial(len(fold.classes))
        fit(model, train, val, 1e-3, EPOCHS, [])
        if way == "thawed":
            base.trainable = True
            fit(model, train, val, 1e-5, EPOCHS, [])
        found = model.predict(test, verbose=0).argmax(axis=1)
        numbers = [int(Path(path).stem) for path in test.file_paths]
    write_answers(table, [fold.test[i] for i in numbers], [fold.classes[i] for i in found])


def link(side: Sequence[Photo], classes: Sequence[str], folder: Path) -> None:
    """Make a folder for each class, with a link to each photo, whose name is the photo's number."""
    for label in classes:
        (folder / label).mkdir(parents=True)
    for number, photo in enumerate(side):
        (folder / photo.label / f"{number}{Path(photo.path).suffix}").symlink_to(photo.path)


if __name__ == "__main__":
    main()
