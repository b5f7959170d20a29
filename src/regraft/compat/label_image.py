"""``regraft-label-image``: the top five of one photo, from an export of ours or an old ``.pb`` or ``.tflite``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from regraft._console import printable
from regraft.compat._flags import Flag, parse_flags
from regraft.compat._foreign import GRAPH_FLAGS, load_graph
from regraft.compat._main import entry
from regraft.errors import ImageError

FLAGS = (
    Flag("image", "", "the photo"),
    Flag("graph", "/tmp/output_graph.pb", "an export, a run, or a .pb, .tflite, .onnx or SavedModel of somebody else"),
    *GRAPH_FLAGS,
)

_TOP = 5


def label_image(tokens: Sequence[str]) -> int:
    """Print the time and the five most probable labels. Raises RegraftError."""
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


main = entry("regraft-label-image", label_image)


if __name__ == "__main__":
    sys.exit(main())
