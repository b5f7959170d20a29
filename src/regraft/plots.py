"""Curves and answers as pictures, by matplotlib.

In: a training's history, or predictions. Out: a PNG.
Why: not everyone opens TensorBoard, and a picture goes into a message.
Surprise: matplotlib's own window system is never touched, so that this works on a server.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from regraft import _console
from regraft._files import as_path, atomic_file, kind_of
from regraft._places import Product, claimed, require_writable
from regraft.errors import ConfigError, ImageError
from regraft.images import decode, read
from regraft.optimisation import Epoch
from regraft.prediction import Prediction

_BARS = 5
"""Classes beside each photo."""
_MOST = 60
_PLOT = Product("a plot of ours", lambda path: _is_drawn(path), option="--plot", error=ConfigError, overwrite="")
_COLUMNS = 3
_THUMBNAIL = 240
_FONTS = 4
_LETTERS = re.compile(r"noto ?sans.*(cjk|kr)|nanum.*gothic|malgun|applesdgothic|wqy|unifont", re.IGNORECASE)
"""Files of fonts with Korean, Chinese and Japanese letters, which matplotlib's own font lacks."""


def plot_history(history: Sequence[Epoch], path: Path) -> bool:
    """Draw loss, top-1 and top-5 over the epochs, train beside val, from the moment of thawing on.

    Returns:
        Whether matplotlib is installed, and so the picture there.
    """
    if find_spec("matplotlib") is None:
        return False
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, (title, name) in zip(
        figure.subplots(1, 3), (("loss", "loss"), ("top-1", "accuracy"), ("top-5", "top5")), strict=True
    ):
        for side, colour in (("train", "tab:blue"), ("val", "tab:orange")):
            found = [(e.number, getattr(e, f"{side}_{name}")) for e in history]
            points = [(x, y) for x, y in found if not math.isnan(y)]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, color=colour, label=side)
        axes.axvline(0, color="grey", linestyle=":", label="thawed")
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name != "loss":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.legend()
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    return True


def plot_predictions(predictions: Iterable[Prediction], path: str | os.PathLike[str]) -> None:
    """Draw the photos in a grid, beside each its most probable classes as bars; of many photos the first 60.

    Args:
        predictions: the answers, also from an iterator, of which no more are held than are drawn.
        path: the PNG.

    Raises:
        ConfigError: matplotlib is not installed, there is nothing to draw, or what is given are no predictions.
    """
    if find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib; type pip install 'regraft[plot]'")
    path = as_path(path, "plot")
    answered, count = _drawn(predictions)
    if not answered:
        raise ConfigError("--plot has nothing to draw: no photo was answered")
    require_writable(path, _PLOT)
    if count > len(answered):
        _console.say(f"{path} has the first {len(answered)} of {count} photos")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # A label may have dollar signs in it, and is no formula.
    style: dict[Any, Any] = {"font.family": _families(), "font.size": 8, "text.parse_math": False}
    columns = min(_COLUMNS, len(answered))
    rows = -(-len(answered) // columns)
    with rc_context(style), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        figure = Figure(figsize=(4.6 * columns, 1.9 * rows), layout="constrained")
        cells = figure.subplots(rows, 2 * columns, squeeze=False)
        for axes in cells.flat:
            axes.axis("off")
        for number, prediction in enumerate(answered):
            row, column = divmod(number, columns)
            _draw_answer(prediction, *cells[row, 2 * column : 2 * column + 2])
        with claimed(path, _PLOT, file=True) as place:
            figure.savefig(place.fresh, format="png", dpi=110)
    if any("Glyph" in str(one.message) for one in told):
        _console.warn(f"no font here has all letters of the labels, so {path} has boxes; install Noto Sans CJK")


def _drawn(predictions: Iterable[Prediction]) -> tuple[list[Prediction], int]:
    """Return the answers that are drawn, and how many there are in all."""
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
            if len(kept) < _MOST:
                kept.append(prediction)
    return kept, count


def _is_drawn(path: Path) -> bool:
    """Whether a file is a PNG that says it was drawn by matplotlib: no photo does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(512)
    return head.startswith(b"\x89PNG") and b"Matplotlib" in head


def _families() -> list[str]:
    """Names of fonts; those found now, since matplotlib's own list is as old as its cache."""
    from matplotlib.font_manager import FontProperties, findSystemFonts, fontManager

    files = sorted(path for path in findSystemFonts() if _LETTERS.search(Path(path).name))
    for path in files[:_FONTS]:
        fontManager.addfont(path)
    return ["DejaVu Sans", *(FontProperties(fname=path).get_name() for path in files[:_FONTS])]


def _draw_answer(prediction: Prediction, photo: Any, bars: Any) -> None:
    try:
        image = decode(read(prediction.path), _THUMBNAIL)
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        photo.imshow(image)
    except ImageError:
        photo.text(0.5, 0.5, "within another file", ha="center", va="center")
    photo.set_title(_console.printable(prediction.path.name)[-20:])
    bars.axis("on")
    labels, shares = zip(*prediction.top[:_BARS], strict=True)
    places = range(len(labels))
    bars.barh(places, shares, color="lightgrey" if prediction.novel else "lightskyblue")
    bars.set(xlim=(0, 1.2), ylim=(_BARS - 0.5, -0.5), yticks=list(places), xticks=[])
    bars.set_yticklabels(labels)
    bars.spines[["top", "right", "bottom"]].set_visible(False)
    bars.set_title("none of these" if prediction.novel else "")
    for place, share in zip(places, shares, strict=True):
        bars.text(share + 0.02, place, f"{share:.1%}", va="center")
