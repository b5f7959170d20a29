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

        The probability of a label is 2/3 where the experts were not sure: 295 functional cells, and 106 defective ones.

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
        return Listing(tuple(_entry(folder / path, float(p)) for path, p, _ in rows))


def _entry(path: Path, defective: float) -> Entry:
    """Return a photo whose cell is defective with this probability."""
    label = "defective" if defective >= 0.5 else "functional"
    return Entry(path, label, probability=max(defective, 1 - defective))
