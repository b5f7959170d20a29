"""What does the worst single file cost? Each of tests/corpus.py, and a few large ones, in a process of its own (Linux).

The large ones are noise, which no photo is: files of 30 to 160 MB.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from _common import report
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.corpus import make

ONE = """
import json, sys, time
from pathlib import Path
from regraft.errors import ImageError
from regraft.photos.images import Transform, read
transform = Transform(288, 1.0, "bilinear", (0, 0, 0), (1, 1, 1))
start = time.perf_counter()
try:
    transform.look(read(Path(sys.argv[1])))
    result = "shown"
except ImageError as error:
    result = str(error)
seconds = time.perf_counter() - start
(peak,) = [int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
print(json.dumps([seconds, peak / 1024, result]))
"""


def large(folder: Path) -> list[Path]:
    """Legitimate photos at the limits."""
    rows = np.random.default_rng(0).integers(0, 256, (6300, 6300, 1)).astype(np.uint8)
    image = Image.fromarray(np.concatenate([rows, rows[::-1], rows[:, ::-1]], axis=2))
    paths = []
    for name, options in (
        ("39 megapixels.jpg", {"quality": 85}),
        ("39 megapixels, progressive.jpg", {"quality": 85, "progressive": True}),
        ("39 megapixels.png", {"compress_level": 1}),
    ):
        image.save(folder / name, None, **options)
        paths.append(folder / name)
    file = io.BytesIO()
    image.convert("RGBA").save(file, "PNG", compress_level=1)
    paths.append(folder / "39 megapixels with alpha.png")
    paths[-1].write_bytes(file.getvalue())
    return paths


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / "c" / case.name for case in make(folder / "c")]
        for path in [*paths, *large(folder)]:
            done = subprocess.run([sys.executable, "-c", ONE, path], capture_output=True, text=True, check=True)
            seconds, peak, result = json.loads(done.stdout)
            rows.append({"file": ascii(path.name), "ms": round(1000 * seconds), "MiB": round(peak), "result": result})
    slowest = sorted(rows, key=lambda row: -row["ms"])[:6]
    heaviest = sorted(rows, key=lambda row: -row["MiB"])[:6]
    report(files=len(rows), shown=sum(row["result"] == "shown" for row in rows), slowest=slowest, heaviest=heaviest)


if __name__ == "__main__":
    main()
