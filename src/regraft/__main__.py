"""``python -m regraft``, and where the command ``regraft`` begins."""

import os
import sys

# ``python -m`` looks for modules in the working folder first: a numpy.py that lies there is somebody's file, not ours.
if not sys.flags.safe_path and sys.path and os.path.realpath(sys.path[0]) == os.path.realpath(""):
    del sys.path[0]

try:
    from regraft.cli.verbs import main
except KeyboardInterrupt:  # while modules are still being imported
    sys.stderr.write("regraft: stopped\n")
    sys.stderr.flush()
    os._exit(130)  # C code that was interrupted makes Python end as if nobody had caught the signal

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
