"""A run's photos for TensorBoard: a map of their features in the Projector tab, and figures in the Images tab.

In: a classifier with a run folder, and its photos. Out: the folder ``logs/projector`` in the run.
Why: photos that lie among those of another class are wrong labels, or the reason of mistakes.
Surprise: the configuration is written last, so that TensorBoard never finds a projector that is not complete.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from regraft.classifiers.classifier import Classifier, open_photos, run_path, sides_of
from regraft.classifiers.evaluation import Evaluation
from regraft.classifiers.run_folder import LAYOUT
from regraft.drawing.figures import confusion_figure, has_matplotlib, png_of, short, thumbnails_figure
from regraft.engines.base import load_engines
from regraft.errors import ImageError
from regraft.features.features import extract_all, labelled_features
from regraft.foundation import console
from regraft.foundation.files import atomic_file, write_text
from regraft.foundation.tensorboard import EventFile
from regraft.photos.dataset import Dataset, ImageRecord
from regraft.photos.images import decode

FOLDER = "projector"
"""The name of the folder in the run's logs, which TensorBoard shows as the name of the run."""

MOST_POINTS = 8000
"""The largest number of photos: a browser moves ten thousand points with difficulty. Of more photos, as many at equal
distances in the order of the data set are taken."""

_MOST_SPRITE = 8192  # pixels of a side; TensorBoard shows no larger sprite
_SIDE = 64  # pixels of a thumbnail; fewer where there are many photos
_MOST_MISTAKES = 24
_MISTAKE_SIDE = 160  # pixels
_TENSORS, _METADATA, _SPRITE, _CONFIG = "tensors.bytes", "metadata.tsv", "sprite.png", "projector_config.pbtxt"


def write_projector(classifier: Classifier, photos: str | os.PathLike[str] | None = None) -> int:
    """Write the features of a run's photos and figures of its mistakes for TensorBoard, and return their number.

    Args:
        classifier: the classifier of a run.
        photos: where the photos are now; None where they have not moved.

    Raises:
        RunError: the classifier has no run folder, or the run does not say where its photos are.
        DataError: the photos are not there.
    """
    folder = run_path(classifier) / LAYOUT.logs / FOLDER
    dataset = open_photos(classifier, photos)
    split = asdict(sides_of(classifier, dataset))
    sides = {dataset.records[i].path: side for side, indices in split.items() for i in indices}
    step = -(-len(dataset.records) // MOST_POINTS)
    engines = load_engines(classifier.backbone, classifier.config, True, classifier.int8, classifier.precision)
    extraction = extract_all(dataset.records[::step], engines)
    chosen = Dataset(dataset.records[::step], dataset.classes)
    chosen, features, _ = labelled_features(chosen, extraction, classifier.backbone)
    if step > 1:
        console.say(f"the projector shows {len(features):,} of {len(dataset.records):,} photos")
    folder.mkdir(parents=True, exist_ok=True)
    _write_events(folder, classifier.evaluation, {record.path: record for record in dataset.records})
    side = _write_sprite(folder / _SPRITE, chosen.records)
    _write_metadata(folder / _METADATA, [(r.label, sides.get(r.path, ""), str(r.path)) for r in chosen.records])
    with atomic_file(folder / _TENSORS) as path:
        path.write_bytes(np.ascontiguousarray(features.x, "<f4").tobytes())
    _write_config(folder / _CONFIG, features.x, side)
    return len(features)


def _write_sprite(path: Path, records: Sequence[ImageRecord]) -> int:
    """Write the thumbnails of photos as one PNG file, row by row, and return the side of a thumbnail in pixels.

    The thumbnail of a photo that can no longer be decoded is grey.
    """
    columns = math.ceil(math.sqrt(len(records)))
    side = min(_SIDE, _MOST_SPRITE // columns)
    sprite = Image.new("RGB", (columns * side, columns * side), "white")
    with console.progress("sprite", len(records)) as advance:
        for number, record in enumerate(records):
            row, column = divmod(number, columns)
            sprite.paste(_thumbnail(record, side), (column * side, row * side))
            advance()
    with atomic_file(path) as temporary:
        sprite.save(temporary, "PNG")
    return side


def _thumbnail(record: ImageRecord, side: int) -> Image.Image:
    """Return the square in the middle of a photo, ``side`` pixels wide; a grey one where it cannot be decoded."""
    try:
        return ImageOps.fit(decode(record.read(), side), (side, side))
    except ImageError:
        return Image.new("RGB", (side, side), "grey")


def _write_metadata(path: Path, rows: Iterable[tuple[str, str, str]]) -> None:
    """Write label, side of the split and path of each photo; tabs, line breaks and other controls become escapes."""
    lines = ["\t".join(map(console.printable, row)) for row in (("label", "split", "path"), *rows)]
    with atomic_file(path) as temporary:
        write_text(temporary, "\n".join((*lines, "")))


def _write_config(path: Path, x: NDArray[np.float32], side: int) -> None:
    """Write the configuration of the projector for features (N, D) and thumbnails of ``side`` pixels."""
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    config = ProjectorConfig()
    embedding = config.embeddings.add(
        tensor_name="features", tensor_path=_TENSORS, metadata_path=_METADATA, tensor_shape=x.shape
    )
    embedding.sprite.image_path = _SPRITE
    embedding.sprite.single_image_dim.extend((side, side))
    with atomic_file(path) as temporary:
        write_text(temporary, text_format.MessageToString(config))


def _write_events(folder: Path, evaluation: Evaluation, records: dict[Path, ImageRecord]) -> None:
    """Write the accuracy, and for the Images tab the confusion matrix and the surest mistakes, if matplotlib is there.

    TensorBoard shows no run without an event file, and so no projector either.
    """
    file = EventFile(folder)
    file.scalars(0, {} if evaluation.accuracy is None else {"accuracy": evaluation.accuracy})
    if evaluation.confusion and evaluation.n and has_matplotlib():
        file.images(0, {name: png_of(figure) for name, figure in _figures(evaluation, records).items()})
    else:
        reason = "no photo was measured, matplotlib is missing, or there are too many classes"
        console.note(f"there is no confusion matrix for TensorBoard: {reason}")
    file.close()


def _figures(evaluation: Evaluation, records: dict[Path, ImageRecord]) -> dict[str, Any]:
    """Return the confusion matrix and the surest mistakes as figures, by their titles."""
    labels = [row.label for row in evaluation.per_class]
    figures = {"confusion matrix": confusion_figure(evaluation.confusion, labels)}
    if shown := [mistake for mistake in evaluation.mistakes[:_MOST_MISTAKES] if mistake.path in records]:
        images = [_thumbnail(records[mistake.path], _MISTAKE_SIDE) for mistake in shown]
        titles = [f"{short(m.label)} → {short(m.predicted)}\n{m.probability:.0%}" for m in shown]
        figures["surest mistakes"] = thumbnails_figure(images, titles)
    return figures
