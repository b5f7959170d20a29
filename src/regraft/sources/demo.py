"""``demo:elpv``: 2,624 real photos of solar cells that the package elpv-dataset ships.

S. Deitsch et al., Automatic classification of defective photovoltaic module cells in electroluminescence
images, Solar Energy 185 (2019). Photos CC BY-NC-SA 4.0, read where the package put them, never copied.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from regraft.errors import DataError
from regraft.sources import Entry, Listing


class Demo:
    """Photos that installed packages ship."""

    def accepts(self, spec: str) -> bool:
        """``demo:`` followed by a name."""
        return spec.startswith("demo:")

    def list(self, spec: str) -> Listing:
        """A cell is ``defective`` where its experts' defect probability is at least 0.5."""
        if spec != "demo:elpv":
            raise DataError(f"unknown demo {spec!r}; there is demo:elpv")
        found = find_spec("elpv_dataset")
        if found is None or found.origin is None:
            raise DataError("the demo's photos are not installed; type: pip install 'regraft[demo]'")
        folder = Path(found.origin).parent / "data"
        rows = [line.split() for line in (folder / "labels.csv").read_text(encoding="utf-8").splitlines()]
        label = {True: "defective", False: "functional"}
        return Listing(tuple(Entry(folder / path, label[float(p) >= 0.5]) for path, p, _ in rows))
