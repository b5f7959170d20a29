"""How long does the exact search for similar photos take, beside NumPy's brute force and FAISS's exact search?

With FLOWERS, also: how long do `regraft embed` and `regraft similar` take, process and all, when all is cached?
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np
from _common import regraft, report

from regraft.features.neighbours import nearest
from regraft.features.unit_roots import unit_roots

TOP = 5


def brute_force(rows: Any, queries: Any) -> None:
    """The five largest of all products in float32; the last digits depend on the block, and ties are in any order."""
    found = queries @ rows.T
    largest = np.argpartition(found, found.shape[1] - TOP, axis=1)[:, -TOP:]
    values = np.take_along_axis(found, largest, axis=1)
    np.take_along_axis(largest, np.argsort(-values, axis=1), axis=1)


def seconds(functions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """The median seconds of each function, called in turns."""
    found: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            found[name].append(time.perf_counter() - began)
    return {name: round(median(times), 4) for name, times in found.items()}


def search(count: int, asked: int, width: int, repeats: int) -> dict[str, Any]:
    """The seconds to find the nearest of ``count`` rows to ``asked`` queries."""
    dice = np.random.default_rng(0)
    rows, queries = (unit_roots(dice.standard_normal((n, width), np.float32)) for n in (count, asked))
    index: Any = faiss.IndexFlatIP(width)
    index.add(rows)
    functions: dict[str, Callable[[], Any]] = {
        "nearest": lambda: nearest(rows, queries, TOP),
        "numpy": lambda: brute_force(rows, queries),
        "faiss": lambda: index.search(queries, TOP),
    }
    return {"rows": count, "queries": asked, **seconds(functions, repeats)}


def commands(photos: Path, repeats: int) -> dict[str, float]:
    """The seconds of the commands on photos whose features are cached; the photo asked about is not one of them."""
    with tempfile.TemporaryDirectory() as folder:
        cache, cwd = Path(folder) / "cache", Path(folder)
        regraft("embed", photos, cache=cache, cwd=cwd)
        photo = cwd / "new.jpg"
        first = next(path for path in sorted(photos.rglob("*.jpg")))
        regraft("similar", photos, first, cache=cache, cwd=cwd)
        photo.write_bytes(first.read_bytes() + b"\0")  # a photo of its own, whose bytes decode to the same pixels
        functions: dict[str, Callable[[], Any]] = {
            "embed": lambda: regraft("embed", photos, cache=cache, cwd=cwd),
            "similar to a known photo": lambda: regraft("similar", photos, first, cache=cache, cwd=cwd),
            "similar to a new photo": lambda: [
                photo.write_bytes(photo.read_bytes() + b"\0"),
                regraft("similar", photos, photo, cache=cache, cwd=cwd),
            ],
        }
        return seconds(functions, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flowers", type=Path, nargs="?")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    found = [
        search(count, asked, options.width, options.repeats) for count in (1000, 10_000, 100_000) for asked in (1, 100)
    ]
    warm = commands(options.flowers.resolve(), options.repeats) if options.flowers else {}
    report(width=options.width, top=TOP, search=found, commands=warm)


if __name__ == "__main__":
    main()
