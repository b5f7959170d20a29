"""The features of photos as a Parquet file: the function `regraft.embed`.

In: photos, with or without labels, and a backbone or a run. Out: a file with one row for each photo that can be read.
Why: clustering, search, maps and other classifiers start from the same features, which are computed already.
Surprise: the features come from the cache of `train` and go to it. A command that was killed computes nothing twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.base import Backbone
from regraft.backbones.side_by_side import parts_of
from regraft.classifiers.classifier import Classifier, engines_of
from regraft.config.features import FeatureConfig
from regraft.config.values import options_of
from regraft.engines.base import Engine, key_of, load_engines, record_of
from regraft.errors import ConfigError, DataError, option
from regraft.exploring.records import records_in, require_levels_alone
from regraft.features.backbone_choice import choose_backbone, require_backbone
from regraft.features.features import extract_all
from regraft.foundation.files import as_path, naming
from regraft.foundation.places import Product, claimed
from regraft.photos.dataset import Dataset, ImageRecord

_GROUP = 4096
"""The number of rows of a Parquet row group. Only so many rows are copied at a time while the file is written."""


def embed(
    photos: str | os.PathLike[str] | Dataset,
    out: str | os.PathLike[str],
    config: FeatureConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    run: Classifier | str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Write the features of photos into a Parquet file.

    The file has a row for each photo that can be read, in the order of the source, with the columns ``path``, ``split``
    (train, val, test, or null), ``digest`` (the SHA-256 of the photo's bytes, in 64 hexadecimal digits), ``label`` (or
    null) and ``features`` (a list of D float32 numbers). The metadata of its schema are texts under the keys
    ``regraft.version``, ``regraft.backbone``, ``regraft.stages`` (a JSON array with backbone, photo size, name and
    width of each stage, in the order of the features), ``regraft.precision`` and ``regraft.fingerprint``: the features
    of two files can be compared only if their fingerprints are the same.

    Args:
        photos: any spec that `Dataset.open` accepts, or a `Dataset`; also a photo, or a folder of photos without
            folders in it, whose labels are null.
        out: the path of the file, which must end in .parquet. A file that this function wrote there is replaced.
        config: the backbone and the photo size, as a `FeatureConfig`, a dict, or the path of a TOML file.
        run: a run, or its path, whose backbone computes the features: in the run's photo size and precision, and
            fine-tuned where the run is. ``config`` may then say only which folders name classes and groups.

    Returns:
        JSON values: ``out``, ``photos`` (the number of rows), ``features`` (D), ``backbone``, ``computed`` and
        ``cached`` (the number of photos whose features were computed, or known before), and ``problems`` (the files
        that were left out).

    Raises:
        ConfigError: ``out`` holds something else, or ``config`` contradicts ``run``.
        DataError: there are no photos, or none of them can be read.
        BackboneError: the backbone is unknown or not installed.
        RunError: ``run`` cannot be read.
    """
    options = options_of(FeatureConfig, config)
    path = as_path(out, "out")
    if path.suffix.lower() != ".parquet":
        raise ConfigError(f"{option('out')} {path} is to be a Parquet file; wanted a name that ends in .parquet")
    classifier = _run_of(run, options)
    with claimed(path, _FEATURES, file=True) as place:
        dataset = records_in(photos, options)
        backbone, engines = _network(classifier, options, dataset.records)
        found = extract_all(dataset.records, engines)
        problems = (*dataset.problems, *found.problems)
        kept = np.flatnonzero(~np.isnan(found.x[:, 0]))
        if not len(kept):
            raise DataError(f"none of the {len(dataset.records)} photos can be read: {problems[0].reason}")
        _write(place.fresh, dataset.records, found.x, kept, _metadata(backbone, engines))
    return {
        "out": str(place.path),
        "photos": len(kept),
        "features": backbone.num_features,
        "backbone": backbone.name,
        "computed": found.computed,
        "cached": found.cached,
        "problems": [{"path": str(p.path), "reason": p.reason} for p in problems],
    }


def _is_ours(file: Path) -> bool:
    """Return whether a file was written by `embed`."""
    from pyarrow import ArrowException, parquet

    try:
        return file.is_file() and b"regraft.stages" in (parquet.read_schema(file).metadata or {})
    except (OSError, ValueError, ArrowException):
        return False


_FEATURES = Product("a file of features", _is_ours, error=ConfigError, overwrite="")


def _run_of(run: Classifier | str | os.PathLike[str] | None, config: FeatureConfig) -> Classifier | None:
    """Return the classifier of a run, if there is one. Raises ConfigError where the options are those of the run."""
    if run is None:
        require_backbone(config)
        return None
    require_levels_alone(config)
    return run if isinstance(run, Classifier) else Classifier.load(run)


def _network(
    classifier: Classifier | None, config: FeatureConfig, records: Sequence[ImageRecord]
) -> tuple[Backbone, Sequence[Engine]]:
    """Return the backbone of a run, or else the one that the options name, with its engines."""
    if classifier is not None:
        return classifier.backbone, engines_of(classifier)
    backbone = choose_backbone(config, records)
    return backbone, load_engines(backbone, config)


def _metadata(backbone: Backbone, engines: Sequence[Engine]) -> dict[str, str]:
    """Return the metadata of a file of features."""
    from importlib.metadata import version

    stages = [
        {"backbone": part.name, "size": part.transform.size, "name": name, "width": width}
        for part in parts_of(backbone)
        for name, width in zip(part.stages, part.widths, strict=True)
    ]
    return {
        "regraft.version": version("regraft"),
        "regraft.backbone": backbone.name,
        "regraft.stages": json.dumps(stages),
        "regraft.precision": record_of(engines)["precision"],
        "regraft.fingerprint": key_of(engines),
    }


def _write(
    path: Path,
    records: Sequence[ImageRecord],
    x: NDArray[np.float32],
    kept: NDArray[np.int64],
    metadata: Mapping[str, str],
) -> None:
    """Write the rows ``kept`` of the features (N, D) of N photos into a Parquet file, one row group after the other."""
    import pyarrow as pa
    from pyarrow import parquet

    texts = [(name, pa.string()) for name in ("path", "split", "digest", "label")]
    schema = pa.schema([*texts, ("features", pa.list_(pa.float32(), x.shape[1]))], metadata)
    dense = [name for name, _ in texts if name in ("split", "label")]  # few values, each of them often
    with naming(path), path.open("wb") as file:
        with parquet.ParquetWriter(file, schema, use_dictionary=dense) as writer:
            for start in range(0, len(kept), _GROUP):
                rows = kept[start : start + _GROUP]
                columns = list(zip(*(_texts(records[row]) for row in rows.tolist()), strict=True))
                features = pa.FixedSizeListArray.from_arrays(pa.array(x[rows].ravel()), x.shape[1])
                writer.write_batch(pa.record_batch([*map(_text_array, columns), features], schema=schema))
        file.flush()
        os.fsync(file.fileno())


def _texts(record: ImageRecord) -> tuple[str, str | None, str, str | None]:
    """Return path, split, digest and label of a photo. Bytes of a path that are not UTF-8 are escaped."""
    path = str(record.path).encode("utf-8", "backslashreplace").decode("utf-8")
    return path, record.split, record.digest, record.label or None


def _text_array(values: Sequence[str | None]) -> Any:
    """Return texts as an Arrow array, also where all of them are missing."""
    import pyarrow as pa

    return pa.array(values, pa.string())
