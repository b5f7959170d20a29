"""``python -m regraft``."""

from __future__ import annotations

import os
import sys

# ``python -m`` looks for modules in the working folder first: a numpy.py that lies there is somebody's file, not ours.
if not sys.flags.safe_path and sys.path and os.path.realpath(sys.path[0]) == os.path.realpath(""):
    del sys.path[0]

from regraft.cli import main

if __name__ == "__main__":
    sys.exit(main())
