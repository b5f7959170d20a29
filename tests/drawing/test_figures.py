"""Figures, by the real matplotlib. Needs the extra plot."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regraft.drawing import figures
from regraft.drawing.figures import confusion_figure, curves_figure, map_figure, reliability_figure, short
from regraft.errors import ConfigError

BLUE, ORANGE, VERMILION = (0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00), (0xD5, 0x5E, 0x00)


def drawn(figure: Any) -> set[tuple[int, ...]]:
    """Draw a figure, and return its colours."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # no font here may have Korean letters
        figure.savefig(file, format="png", dpi=120)
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    return {tuple(map(int, colour)) for colour in np.unique(pixels, axis=0)}


def test_figures_have_the_colours_of_the_charts() -> None:
    pytest.importorskip("matplotlib")
    labels = ["<b>", "해바라기", "$a_1$"]
    assert BLUE in drawn(confusion_figure([[5, 0, 0], [0, 2, 3], [1, 0, 0]], labels, "$title$"))
    assert {BLUE, VERMILION} <= drawn(reliability_figure([(0.5, 0.25, 4), (0.9, 1.0, 8)]))
    curves = {"loss": {"train": [(0, 1.0), (1, 0.5)], "val": [(1, 0.7)]}, "top-1": {"train": [], "val": [(0, 0.5)]}}
    assert {BLUE, ORANGE} <= drawn(curves_figure(curves, "epoch", thawed=True))


def test_a_map_rings_wrong_answers_and_counts_the_classes_beyond_24() -> None:
    pytest.importorskip("matplotlib")
    dice = np.random.default_rng(0)
    y = np.repeat(np.arange(26), 4)
    figure = map_figure(dice.normal(size=(len(y), 2)), y, [f"class {i}" for i in range(26)], np.arange(len(y)) == 3)
    drawn(figure)
    named = figure.axes[0].get_legend_handles_labels()[1]
    assert len(named) == 26
    assert (named[0], named[-1]) == ("2 other classes", "wrong answer")


def test_nothing_is_drawn_of_no_points() -> None:
    pytest.importorskip("matplotlib")
    drawn(map_figure(np.empty((0, 2)), [], ["a", "b"], np.empty(0, bool)))
    drawn(reliability_figure([]))
    drawn(confusion_figure([[0, 0], [0, 0]], ["a", "b"]))


def test_long_labels_are_cut_and_control_characters_escaped() -> None:
    assert short("x" * 200) == "x" * 23 + "…"
    assert short("a\nb") == "a\\nb"


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs matplotlib; type pip install 'regraft\[plot\]'"):
        reliability_figure([])
