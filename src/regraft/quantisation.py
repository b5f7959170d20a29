"""A backbone in eight-bit integers, calibrated on the user's own photos by NNCF.

In: a backbone and records. Out: its int8 graph (.xml, with the .bin beside it), in the cache.
Why: integers are the fastest that many processors have, and what a quantised export will compute.
Surprise: how much accuracy it costs depends on backbone and photos, so `train` measures it beside bf16 each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from regraft import _console
from regraft._files import atomic_folder, cache_folder, digest_json
from regraft.backbones import Backbone
from regraft.backbones._graphs import child, graph_path
from regraft.dataset import ImageRecord
from regraft.errors import BackboneError, DataError, ImageError

CALIBRATION = 256
"""Photos that show NNCF the range of each layer's values; of no more does it make use by default than 300."""


def quantised_graph(backbone: Backbone, records: Sequence[ImageRecord]) -> Path:
    """The int8 graph, made where it is not in the cache. Labels play no part in it.

    Raises:
        BackboneError: NNCF is not installed, or cannot do it.
        DataError: no photo can be read.
    """
    if find_spec("nncf") is None:
        raise BackboneError("--precision int8 needs NNCF; type pip install 'regraft[int8]'")
    chosen = sorted({record.digest: record for record in records}.values(), key=lambda r: r.digest)[:CALIBRATION]
    key = digest_json([backbone.fingerprint, [record.digest for record in chosen]])
    path = cache_folder() / "graphs" / f"int8-{key[:32]}" / "graph.xml"
    if path.is_file():
        return path
    _console.note(f"calibrating int8 on {len(chosen)} photos")
    photos = []
    for record in chosen:
        try:
            photos.append(backbone.transform.load(record.read()))
        except ImageError:  # told by `extract`
            continue
    if not photos:
        raise DataError("no photo can be read to calibrate int8 on")
    with atomic_folder(path.parent) as folder:
        np.save(folder / "photos.npy", np.stack(photos))
        arguments = (str(graph_path(backbone)), str(folder / "photos.npy"), str(folder / path.name))
        child("regraft._int8", *arguments, what=f"{backbone.name} in int8")
        (folder / "photos.npy").unlink()
    return path
