"""The classic commands, such as ``retrain.py``, with their flags, defaults and printed lines, on top of regraft.

In: the command lines of old tutorials. Out: the files and printed lines that the tutorials describe.
Why: the original programs can no longer be installed, and people still type their command lines.
Surprise: no training code is here; each module translates flags into calls of regraft's functions.
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
"""The modules of the classic commands, each with a table ``FLAGS`` and a function ``main``.

The command of a module is ``regraft-`` and its name, with dashes.
"""
