"""``demo:elpv``: 2,624 real photos of solar cells that the package elpv-dataset ships.

S. Deitsch et al., Automatic classification of defective photovoltaic module cells in electroluminescence
images, Solar Energy 185 (2019). Photos CC BY-NC-SA 4.0, read where the package put them, never copied.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from regraft.errors import DataError
from regraft.photos.sources.base import Entry, Listing


class Demo:
    """The source for photos that are part of an installed package."""

    def accepts(self, spec: str) -> bool:
        """Return whether ``spec`` begins with ``demo:``."""
        return spec.startswith("demo:")

    def list(self, spec: str) -> Listing:
        """List the photos. The label is ``defective`` if the experts' defect probability is at least 0.5.

        Raises:
            DataError: the name is unknown, or the package is not installed.
        """
        if spec != "demo:elpv":
            raise DataError(f"unknown demo {spec!r}; there is demo:elpv")
        found = find_spec("elpv_dataset")
        if found is None or found.origin is None:
            raise DataError("the demo's photos are not installed; type: pip install 'regraft[demo]'")
        folder = Path(found.origin).parent / "data"
        rows = [line.split() for line in (folder / "labels.csv").read_text(encoding="utf-8").splitlines()]
        label = {True: "defective", False: "functional"}
        return Listing(tuple(Entry(folder / path, label[float(p) >= 0.5]) for path, p, _ in rows))
