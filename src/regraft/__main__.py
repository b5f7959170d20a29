"""``python -m regraft``, and where the command ``regraft`` begins."""

from __future__ import annotations

import sys

try:
    from regraft.cli import main
except KeyboardInterrupt:  # while modules are still being imported
    sys.stderr.write("regraft: stopped\n")
    sys.exit(130)

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
