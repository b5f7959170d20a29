"""Figures by matplotlib, in one style: confusion matrices, reliability, learning curves, maps of points.

matplotlib is imported within the functions, since it is an extra. Its ``pyplot`` is not used, so that no window system
is needed: the figures can be drawn on a server, shown by a notebook, or saved by ``figure.savefig``.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regraft.drawing.charts import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from regraft.errors import ConfigError
from regraft.foundation.console import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float]]
_COLOURS = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, "#000000", "#B8A800")
_MARKERS = "osD^vP"
_MOST_NAMED = len(_COLOURS) * 3  # classes of a map with a colour of their own; the others are grey
_LONGEST = 24  # characters of a label
_MOST_FONTS = 4  # of the fonts with Asian letters
_CJK_FONTS = re.compile(r"noto ?sans.*(cjk|kr)|nanum.*gothic|malgun|applesdgothic|wqy|unifont", re.IGNORECASE)
"""The names of font files with Korean, Chinese and Japanese letters, which matplotlib's own font lacks."""


def has_matplotlib() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def require_matplotlib(what: str) -> None:
    """Raise ConfigError, which says what to type, unless matplotlib is installed. ``what`` begins the message."""
    if not has_matplotlib():
        raise ConfigError(f"{what} needs matplotlib; type pip install 'regraft[plot]'")


@contextmanager
def style() -> Iterator[None]:
    """Draw what is drawn in the ``with`` block in the style of all our figures."""
    from matplotlib import rc_context

    # matplotlib would draw text between two dollar signs as a formula, and a label may contain dollar signs.
    values: dict[Any, Any] = {
        "font.family": _families(),
        "font.size": 9,
        "text.parse_math": False,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": GREY,
        "xtick.color": GREY,
        "ytick.color": GREY,
        "xtick.labelcolor": "#222222",
        "ytick.labelcolor": "#222222",
        "grid.color": "#E4E4E4",
        "axes.axisbelow": True,
        "legend.frameon": False,
        "figure.constrained_layout.w_pad": 0.09,
        "figure.constrained_layout.h_pad": 0.09,
    }
    with rc_context(values):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a width and height in inches, which notebooks show although it is not of pyplot."""
    from matplotlib.figure import Figure

    shown: Any = type("Shown", (Figure,), {"_repr_png_": png_of})  # IPython asks for it without pyplot
    figure: Figure = shown(figsize=(width, height), layout="constrained")
    return figure


def png_of(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG file, with 100 pixels an inch."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a letter that no font has is drawn as a box
        figure.savefig(file, format="png", dpi=100)
    return file.getvalue()


def short(label: str) -> str:
    """Return a label that fits beside an axis: cut at its end, with control characters escaped."""
    safe = printable(label)
    return safe if len(safe) <= _LONGEST else safe[: _LONGEST - 1] + "…"


def confusion_figure(counts: Sequence[Sequence[int]], labels: Sequence[str], title: str = "") -> Figure:
    """Draw a confusion matrix: a row for each label, a column for each prediction; colours are shares of the row.

    Args:
        counts: the counts (C, C).
        labels: the C labels.
        title: the title of the figure.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    require_matplotlib("a confusion matrix")
    table = np.asarray(counts, float).reshape(len(labels), len(labels))
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    wrong = np.where(np.eye(len(labels), dtype=bool), np.nan, shares)
    side = min(3.0 + 0.42 * len(labels), 16)
    with style():
        figure = new_figure(side + 0.6, side)
        axes = figure.subplots()
        axes.imshow(np.where(np.isnan(wrong), shares, np.nan), _ramp(BLUE), vmin=0, vmax=1)
        axes.imshow(wrong**0.6, _ramp(VERMILION), vmin=0, vmax=1)
        places, names = range(len(labels)), [short(label) for label in labels]
        axes.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(places, names)
        axes.set(xlabel="prediction", ylabel="label", title=title)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for i, j in np.argwhere(table > 0) if len(labels) <= 30 else ():
            colour = "white" if shares[i, j] > (0.6 if i == j else 0.45) else "#222222"
            axes.text(j, i, f"{table[i, j]:.0f}", ha="center", va="center", color=colour)
    return figure


def reliability_figure(bins: Sequence[tuple[float, float, int]], title: str = "") -> Figure:
    """Draw the accuracy over the confidence, and below it how many photos there are.

    Args:
        bins: (confidence, accuracy, number of photos) of each bin that has photos; shares in 0..1.
        title: the title of the figure.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    require_matplotlib("a reliability chart")
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    confidence, accuracy, n = np.array(bins, float).reshape(-1, 3).T
    with style():
        figure = new_figure(4.6, 5)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        upper.plot((0, 1), (0, 1), "--", color=GREY, label="perfect calibration")
        upper.vlines(confidence, confidence, accuracy, color=VERMILION, linewidth=2, label="gap")
        upper.plot(confidence, accuracy, "o-", color=BLUE, label="measured")
        upper.set(title=title, ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
        upper.legend(loc="upper left")
        lower.bar(confidence, n, width=1 / 25, color=BLUE)
        lower.set(xlabel="confidence", ylabel="photos")
        lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        upper.yaxis.set_major_formatter(PercentFormatter(1.0))
        lower.xaxis.set_major_formatter(PercentFormatter(1.0))
        upper.grid(True)
    return figure


def curves_figure(panels: Mapping[str, Mapping[str, Curve]], step: str, thawed: bool = False) -> Figure:
    """Draw learning curves, one panel beside the other.

    Args:
        panels: for each title of a panel, its curves by name: train is blue, val is orange. A panel whose title does
            not begin with "loss" has a percent axis.
        step: the name of the horizontal axis, such as ``epoch``.
        thawed: whether to mark step 0 as the point where the backbone was thawed.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    require_matplotlib("learning curves")
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    with style():
        figure = new_figure(4 * len(panels), 3.4)
        for axes, (title, curves) in zip(
            figure.subplots(1, len(panels), squeeze=False).flat, panels.items(), strict=True
        ):
            for (label, curve), colour in zip(curves.items(), (BLUE, ORANGE), strict=False):
                if curve:
                    marker = "o" if len(curve) < 40 else ""
                    axes.plot(*zip(*curve, strict=True), marker=marker, markersize=3.5, color=colour, label=label)
            if thawed:
                axes.axvline(0, color=GREY, linestyle=":", label="thawed")
            axes.set(title=title, xlabel=step)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            if not title.startswith("loss"):
                axes.yaxis.set_major_formatter(PercentFormatter(1.0))
            axes.grid(True)
            axes.legend()
    return figure


def map_figure(
    points: NDArray[Any], y: Sequence[int] | NDArray[Any], labels: Sequence[str], wrong: NDArray[Any], title: str = ""
) -> Figure:
    """Draw a map of photos: a point for each photo, in the colour of its class, ringed where its answer is wrong.

    Args:
        points: the places (N, 2).
        y: the class index (N,) of each point.
        labels: the C labels. The largest 24 classes have colours and marks of their own.
        wrong: whether each answer is wrong (N,), bool.
        title: the title of the figure.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    require_matplotlib("a map")
    y, wrong = np.asarray(y, int), np.asarray(wrong, bool)
    order = np.argsort(-np.bincount(y, minlength=len(labels)), kind="stable")
    named, others = order[:_MOST_NAMED], order[_MOST_NAMED:]
    size = 26 if len(points) < 1000 else 12

    def places(chosen: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
        return points[chosen, 0], points[chosen, 1]

    with style():
        figure = new_figure(8, 6)
        axes = figure.subplots()
        if len(others):
            axes.scatter(*places(np.isin(y, others)), s=size, color="#C8C8C8", label=f"{len(others)} other classes")
        for rank, i in enumerate(named):
            look: dict[str, Any] = {"color": _COLOURS[rank % len(_COLOURS)], "marker": _MARKERS[rank // len(_COLOURS)]}
            axes.scatter(*places(y == i), s=size, alpha=0.75, linewidths=0, label=short(labels[i]), **look)
        if wrong.any():
            ring: dict[str, Any] = {"facecolors": "none", "edgecolors": "#222222", "linewidths": 1.2}
            axes.scatter(*places(wrong), s=3 * size, label="wrong answer", **ring)
        axes.set(title=title, xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), markerscale=1.2)
    return figure


def thumbnails_figure(images: Sequence[Any], titles: Sequence[str], columns: int = 6) -> Figure:
    """Draw images in rows of ``columns``, each below its title.

    Args:
        images: at least one image of Pillow or array (H, W, 3) uint8.
        titles: the title of each image, of one or two lines.
        columns: the number of images in a row.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    require_matplotlib("a picture of photos")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    with style():
        figure = new_figure(1.7 * columns, 2.1 * rows)
        cells = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in cells:
            axes.axis("off")
        for axes, image, title in zip(cells, images, titles, strict=False):
            axes.imshow(image)
            axes.set_title(title, fontsize=8, loc="center")
    return figure


def _ramp(colour: str) -> Any:
    """Return a colour map from white to ``colour``; what is not a number is transparent."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("", ["#FFFFFF", colour]).with_extremes(bad=(0, 0, 0, 0))


def _families() -> list[str]:
    """Return the names of the fonts to use: matplotlib's own font, and installed fonts with Asian letters.

    The installed fonts are searched at each call, since matplotlib's own list is cached and may be old.
    """
    from matplotlib.font_manager import FontProperties, findSystemFonts, fontManager

    files = sorted(path for path in findSystemFonts() if _CJK_FONTS.search(Path(path).name))[:_MOST_FONTS]
    for path in files:
        fontManager.addfont(path)
    return ["DejaVu Sans", *(FontProperties(fname=path).get_name() for path in files)]
