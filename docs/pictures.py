"""Draw the pictures of the docs with regraft itself: ``python docs/pictures.py``. Needs the extra ``plot``.

The photos are those of the tutorial, which examples/draw_flowers.py draws.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parent
OPTIONS = ("--val", "0.2", "--test", "0.2", "--precision", "fp32")


def main() -> None:
    """Train as the tutorial does, draw the answers, and store them smaller than they were drawn."""
    with tempfile.TemporaryDirectory() as folder:

        def run(*command: str) -> None:
            subprocess.run([sys.executable, *command], cwd=folder, check=True, stdout=subprocess.DEVNULL)

        run(str(DOCS.parent / "examples" / "draw_flowers.py"), ".")
        Path(folder, "flowers/daisy/daisy-101.jpg").rename(Path(folder, "flowers/sunflower/daisy-101.jpg"))
        run("-m", "regraft", "check", "flowers", "--precision", "fp32", "--write", "clean.csv")
        run("-m", "regraft", "train", "clean.csv", *OPTIONS, "--out", "runs/flowers")
        run("-m", "regraft", "predict", "runs/flowers", "new", "--plot", "answers.png")
        picture = Image.open(Path(folder, "answers.png")).convert("RGB")
        picture.resize((1000, 1000 * picture.height // picture.width), Image.Resampling.LANCZOS).save(
            DOCS / "images" / "answers.png", optimize=True
        )


if __name__ == "__main__":
    main()
