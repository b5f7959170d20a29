"""``regraft-label-image``: print the five most probable labels of one photo, by an export or another graph."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from regraft.compat._flags import Flag, parse_flags
from regraft.compat._foreign import GRAPH_FLAGS, load_graph
from regraft.compat._main import entry
from regraft.errors import ImageError
from regraft.foundation.console import printable

FLAGS = (
    Flag("image", "", "the photo to label"),
    Flag("graph", "/tmp/output_graph.pb", "an export or run of regraft, or another .pb, .tflite, .onnx or SavedModel"),
    *GRAPH_FLAGS,
)

_TOP = 5


def label_image(tokens: Sequence[str]) -> int:
    """Print the seconds that a photo takes, and its five most probable labels. Raises RegraftError."""
    options = parse_flags("regraft-label-image", "Label one photo.", FLAGS, tokens)
    if not options.image:
        raise ImageError("no photo was named; type --image PHOTO")
    predictor = load_graph(options.graph, options)
    start = perf_counter()
    scores = predictor.predict_proba([Path(options.image)])[0]
    sys.stdout.write(f"\nEvaluation time (1-image): {perf_counter() - start:.3f}s\n\n")
    for i in np.argsort(-scores, kind="stable")[:_TOP]:
        sys.stdout.write(f"{printable(predictor.classes[i])} (score={scores[i]:.5f})\n")
    return 0


main: Callable[..., int] = entry("regraft-label-image", label_image)


if __name__ == "__main__":
    sys.exit(main())
