"""A backbone in eight-bit integers, calibrated on the user's own photos by NNCF.

In: a backbone and records. Out: its int8 graph (.xml, with the .bin beside it), in the cache.
Why: integers are the fastest that many processors have, and what a quantised export will compute.
Surprise: how much accuracy it costs depends on backbone and photos, so `train` measures it beside bf16 each time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from regraft import _console
from regraft._files import digest_json
from regraft._processes import call
from regraft.backbones import Backbone
from regraft.backbones._graphs import graph_path, kept_graph
from regraft.dataset import ImageRecord
from regraft.errors import BackboneError, DataError, ImageError
from regraft.images import Pixels

CALIBRATION = 256
"""Photos that show NNCF the range of each layer's values; of no more does it make use by default than 300."""


def quantised_graph(backbone: Backbone, records: Sequence[ImageRecord]) -> Path:
    """The int8 graph, made where it is not in the cache. Labels play no part in it.

    Raises:
        BackboneError: NNCF is not installed, or cannot do it.
        DataError: no photo can be read.
    """
    _require_nncf()
    chosen = sorted({record.digest: record for record in records}.values(), key=lambda r: r.digest)[:CALIBRATION]
    key = digest_json([backbone.fingerprint, [record.digest for record in chosen]])

    def build(path: Path) -> None:
        _console.note(f"calibrating int8 on {len(chosen)} photos")
        quantise(graph_path(backbone), pixels_of(backbone, chosen), path)

    return kept_graph(f"int8-{key[:32]}", build)


def pixels_of(backbone: Backbone, records: Sequence[ImageRecord]) -> Pixels:
    """What the backbone sees of those that can be read, (N, S, S, 3). Raises DataError where none can be."""
    photos = []
    for record in records:
        try:
            photos.append(backbone.transform.load(record.read()))
        except ImageError:  # told by `extract`
            continue
    if not photos:
        raise DataError("no photo can be read to calibrate int8 on")
    return np.stack(photos)


def quantise(graph: Path, photos: Pixels, out: Path) -> Path:
    """Write ``graph`` (.xml) in int8 to ``out``, calibrated on photos (N, S, S, 3). Raises BackboneError."""
    _require_nncf()
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "photos.npy", photos)
        job = {"graph": str(graph), "photos": str(Path(folder) / "photos.npy"), "out": str(out)}
        call("regraft._int8:quantise", job, "the int8 graph cannot be built")
    return out


def _require_nncf() -> None:
    if find_spec("nncf") is None:
        raise BackboneError("int8 on OpenVINO needs NNCF; type pip install 'regraft[int8]'")
