"""``python -m regraft``."""

from __future__ import annotations

import sys

from regraft.cli import main

if __name__ == "__main__":
    sys.exit(main())
