"""Quantisation of a backbone to eight-bit integers (int8) by NNCF, with the user's own photos as calibration photos.

In: a backbone and records. Out: the int8 graph of the backbone (.xml, with the .bin beside it), in the cache.
Why: int8 is the fastest precision of many processors, and the precision of a quantised export.
Surprise: the loss of accuracy depends on the backbone and the photos, so `train` compares int8 with floats.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from regraft.backbones.base import Backbone
from regraft.backbones.graphs import graph_path, kept_graph
from regraft.errors import BackboneError, DataError, ImageError
from regraft.foundation import console
from regraft.foundation.files import digest_json
from regraft.foundation.processes import call
from regraft.photos.dataset import ImageRecord
from regraft.photos.images import Pixels

CALIBRATION = 256
"""The number of calibration photos, on which NNCF measures the range of each layer's values. By default NNCF uses at
most 300."""


def quantised_graph(backbone: Backbone, records: Sequence[ImageRecord]) -> Path:
    """Return the path of the int8 graph of a backbone, which is built if it is not in the cache.

    Args:
        backbone: the backbone to quantise.
        records: photos, of which at most `CALIBRATION` become calibration photos. Their labels are not used.

    Raises:
        BackboneError: NNCF is not installed, or cannot quantise the backbone.
        DataError: no photo can be read.
    """
    _require_nncf()
    # Sorted by digest, so that the same photos give the same graph, whatever their order and their names are.
    chosen = sorted({record.digest: record for record in records}.values(), key=lambda r: r.digest)[:CALIBRATION]
    key = digest_json([backbone.fingerprint, [record.digest for record in chosen]])

    def build(path: Path) -> None:
        console.note(f"quantising the backbone to int8 with {len(chosen)} calibration photos")
        quantise(graph_path(backbone), pixels_of(backbone, chosen), path)

    return kept_graph(f"int8-{key[:32]}", build)


def pixels_of(backbone: Backbone, records: Sequence[ImageRecord]) -> Pixels:
    """Return the transformed pixels (N, S, S, 3) of the photos that can be read. Raises DataError if none can."""
    photos = []
    for record in records:
        try:
            photos.append(backbone.transform.load(record.read()))
        except ImageError:  # `extract` reports this photo
            continue
    if not photos:
        raise DataError("int8 needs calibration photos, and no photo can be read")
    return np.stack(photos)


def quantise(graph: Path, photos: Pixels, out: Path) -> Path:
    """Quantise ``graph`` (.xml) to int8 and write it to ``out``.

    Args:
        graph: the graph to quantise.
        photos: the transformed calibration photos, (N, S, S, 3) uint8.
        out: the path of the int8 graph (.xml).

    Returns:
        The path ``out``.

    Raises:
        BackboneError: NNCF is not installed, or cannot quantise the graph.
    """
    _require_nncf()
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "photos.npy", photos)
        job = {"graph": str(graph), "photos": str(Path(folder) / "photos.npy"), "out": str(out)}
        call("regraft.engines.int8_building:quantise", job, "the int8 graph cannot be built")
    return out


def _require_nncf() -> None:
    """Raise BackboneError if NNCF is not installed."""
    if find_spec("nncf") is None:
        raise BackboneError("int8 on OpenVINO needs NNCF; type pip install 'regraft[int8]'")
