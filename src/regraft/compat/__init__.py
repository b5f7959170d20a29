"""The classic commands on this engine: `retrain.py` and its kin, with their flags, defaults and familiar lines.

In: the command lines of old tutorials. Out: what those promised.
Why: they no longer install, and people still type them.
Surprise: nothing is learned here; each module maps flags to the public functions.
"""

COMMANDS = (
    "build_image_data",
    "evaluate_graph",
    "inception_eval",
    "inception_train",
    "label_image",
    "make_image_classifier",
    "quantize_graph",
    "retrain",
)
"""The modules, each with ``FLAGS``, its table of flags, and ``main``; ``regraft-`` and the name is what to type."""
