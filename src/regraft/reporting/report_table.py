"""The table of a report: a row for each photo, in plain columns of Parquet, such as pandas and pyarrow read.

In: `Facts`, and what is drawn of the photos. Out: a Parquet file.
Why: some questions no page answers; a table can be searched, joined and drawn by other tools.
Surprise: photos that are not on the map have no x and y, and photos without a suspect score are of a class that is too
small to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regraft.reporting.page_data import Drawn
from regraft.reporting.report_facts import Facts

_MARK = "regraft"  # the name, in the metadata of the file, of what wrote it


def write_table(facts: Facts, drawn: Drawn, path: Path) -> None:
    """Write the table.

    Its columns are path, split, label, answer, probability (of the answer), probabilities (a list, in the order of the
    classes in the metadata), measured, novelty, x, y, neighbours (a list of paths, the nearest first), similarities,
    suspect_score (higher is more doubtful, 0 to 2) and suggested_label.

    Args:
        facts: the facts about N photos.
        drawn: the points of the photos that are on the map, and the nearest training photos of all photos.
        path: the file to write.
    """
    import pyarrow as pa
    from pyarrow import parquet

    classes = np.array(facts.classifier.classes, object)
    xy = np.full((len(facts.features), 2), np.nan, np.float32)
    xy[list(drawn.chosen)] = drawn.points
    measured = np.zeros(len(facts.features), np.bool_)
    measured[facts.measured] = True
    paths = [str(record.path).encode("utf-8", "backslashreplace").decode() for record in facts.dataset.records]
    near, similar = _neighbours(drawn, paths)
    known = ~np.isnan(facts.margins)
    columns: dict[str, Any] = {
        "path": paths,
        "split": list(facts.sides),
        "label": classes[facts.features.y].tolist(),
        "answer": classes[facts.predicted].tolist(),
        "probability": facts.answers.probabilities.max(axis=1),
        "probabilities": list(facts.answers.probabilities),
        "measured": measured,
        "novelty": pa.array(facts.answers.novelty, from_pandas=True),
        "x": pa.array(xy[:, 0], from_pandas=True),
        "y": pa.array(xy[:, 1], from_pandas=True),
        "neighbours": near,
        "similarities": similar,
        "suspect_score": pa.array(1 - facts.margins, from_pandas=True),
        "suggested_label": [str(c) if k else None for c, k in zip(classes[facts.suggested], known, strict=True)],
    }
    metadata = {_MARK: "report", "classes": "\n".join(facts.classifier.classes)}
    table = pa.table(columns).replace_schema_metadata(metadata)
    parquet.write_table(table, path, compression="zstd")


def _neighbours(drawn: Drawn, paths: Sequence[str]) -> tuple[list[list[str]], list[list[float]]]:
    """Return the paths and the similarities of the nearest training photos of each photo."""
    rows = list(zip(*(part.tolist() for part in drawn.near), strict=True))
    names = [[paths[i] for i in near if i >= 0] for near, _ in rows]
    return names, [[s for i, s in zip(near, values, strict=True) if i >= 0] for near, values in rows]


def is_table(path: Path) -> bool:
    """Return whether a file is the table of a report, so that it may be replaced."""
    import pyarrow as pa
    from pyarrow import parquet

    if not path.is_file():
        return False
    try:
        return (parquet.read_schema(path).metadata or {}).get(_MARK.encode()) == b"report"
    except (OSError, ValueError, pa.ArrowException):
        return False
