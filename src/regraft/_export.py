"""Build what an export holds: ``python -m regraft._export FORMAT RUN OUT …``, a process of its own.

A process has one Keras backend for life: this one has the one that the format needs.
"""

from __future__ import annotations

import sys

from regraft.exporters import registry
from regraft.exporters._keras import build

if __name__ == "__main__":
    build(sys.argv[1:], None if sys.argv[1] == "tail" else registry.load(sys.argv[1])())
