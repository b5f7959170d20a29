"""A plot of photos with their predictions, drawn by matplotlib.

In: predictions. Out: a PNG file.
Why: a plot shows at a glance what a classifier answers, and can be sent to others.
Surprise: no window system is used (matplotlib's `pyplot` is not imported), so that plots also work on a server.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from regraft.classifiers.prediction import Prediction
from regraft.drawing.charts import BLUE, GREY
from regraft.drawing.figures import require_matplotlib, short, style
from regraft.errors import ConfigError, ImageError, option
from regraft.foundation import console
from regraft.foundation.files import as_path, kind_of
from regraft.foundation.places import Product, claimed, require_writable
from regraft.photos.images import decode, read

_CLASSES_PER_PHOTO = 5
"""The largest number of classes that are drawn as bars beside each photo."""

_MOST_PHOTOS = 60
"""The largest number of photos in a plot."""

PLOT = Product("a plot of ours", lambda path: _is_drawn(path), option="plot", error=ConfigError, overwrite="")
_COLUMNS = 3  # of photos
_THUMBNAIL = 240  # pixels of the longer side of a photo


def plot_predictions(predictions: Iterable[Prediction], path: str | os.PathLike[str]) -> None:
    """Draw photos in a grid, with the probabilities of the five most probable classes as bars beside each photo.

    At most 60 photos are drawn, the first ones. Photos that could not be read are left out.

    Args:
        predictions: the predictions, also from an iterator; only those that are drawn are kept in memory.
        path: the path of the PNG file. An older plot at this path is replaced, another file is not.

    Raises:
        ConfigError: matplotlib is not installed, no photo was answered, ``predictions`` are not predictions, or
            ``path`` cannot be written.
    """
    require_matplotlib(option("plot"))
    path = as_path(path, "plot")
    answered, count = _drawn(predictions)
    if not answered:
        raise ConfigError(f"{option('plot')} has nothing to draw: no photo was answered")
    require_writable(path, PLOT)
    if count > len(answered):
        console.say(f"{path} has the first {len(answered)} of {count} photos")
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(answered))
    rows = -(-len(answered) // columns)
    with style(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure = Figure(figsize=(4.6 * columns, 1.9 * rows), layout="constrained")
        cells = figure.subplots(rows, 2 * columns, squeeze=False)
        for axes in cells.flat:
            axes.axis("off")
        for number, prediction in enumerate(answered):
            row, column = divmod(number, columns)
            _draw_answer(prediction, *cells[row, 2 * column : 2 * column + 2])
        with claimed(path, PLOT, file=True) as place:
            figure.savefig(place.fresh, format="png", dpi=110)
    if any("Glyph" in str(warning.message) for warning in caught):  # matplotlib warns of each missing letter
        console.warn(
            f"no installed font has all letters of the labels, so {path} shows boxes in their place; "
            "install Noto Sans CJK"
        )


def _drawn(predictions: Iterable[Prediction]) -> tuple[list[Prediction], int]:
    """Return the predictions to draw, and the number of all photos that were answered. Raises ConfigError."""
    kept: list[Prediction] = []
    count = 0
    if not isinstance(predictions, Iterable):
        raise ConfigError(f"predictions are {kind_of(predictions)}; wanted what regraft.predict returns")
    for prediction in predictions:
        if not isinstance(prediction, Prediction):
            raise ConfigError(
                f"there is {kind_of(prediction)} among the predictions; wanted what regraft.predict returns"
            )
        if prediction.error is None:
            count += 1
            if len(kept) < _MOST_PHOTOS:
                kept.append(prediction)
    return kept, count


def _is_drawn(path: Path) -> bool:
    """Return whether a file is a PNG by matplotlib, which writes its name into the file; a photo lacks this name."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(512)
    return head.startswith(b"\x89PNG") and b"Matplotlib" in head


def _draw_answer(prediction: Prediction, photo: Any, bars: Any) -> None:
    """Draw a photo on the axes ``photo``, and the probabilities of its classes on the axes ``bars``."""
    try:
        image = decode(read(prediction.path), _THUMBNAIL)
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        photo.imshow(image)
    except ImageError:  # the photo is in an archive or a table, so its path is not a file
        photo.text(0.5, 0.5, "within another file", ha="center", va="center")
    photo.set_title(console.printable(prediction.path.name)[-20:], fontsize=8, loc="center")
    bars.axis("on")
    labels, shares = zip(*prediction.top[:_CLASSES_PER_PHOTO], strict=True)
    places = range(len(labels))
    bars.barh(places, shares, height=0.62, color=GREY if prediction.novel else BLUE)
    bars.set(xlim=(0, 1.3), ylim=(_CLASSES_PER_PHOTO - 0.5, -0.5), yticks=list(places), xticks=[])
    bars.set_yticklabels([short(label) for label in labels])
    bars.tick_params(length=0)
    bars.spines["bottom"].set_visible(False)
    bars.set_title("none of these" if prediction.novel else "", fontsize=9)
    for place, share in zip(places, shares, strict=True):
        bars.text(share + 0.02, place, f"{share:.1%}", va="center", fontsize=8)
