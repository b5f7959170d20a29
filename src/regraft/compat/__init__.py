"""The classic commands on this engine: `retrain.py` and its kin, with their flags, defaults and familiar lines.

In: the command lines of old tutorials. Out: what those promised.
Why: they no longer install, and people still type them.
Surprise: nothing is learned here; each module maps flags to the public functions.
"""
