"""``regraft-evaluate-graph GRAPH``: measure accuracy and cross-entropy of a graph on a folder of photos."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from regraft.classifiers.evaluation import evaluate, open_side
from regraft.compat._flags import Flag, parse_flags
from regraft.compat._foreign import GRAPH_FLAGS, load_graph
from regraft.compat._main import entry
from regraft.compat._outputs import run_behind
from regraft.errors import DataError
from regraft.foundation import console
from regraft.photos.dataset import Dataset

FLAGS = (
    Flag("image_dir", "tf_files/flower_photos", "folder of class folders, or any other source of photos"),
    Flag("checkpoint_path", "/tmp/_retrain_checkpoint", "the run of the graph, which knows the photos it trained on"),
    *GRAPH_FLAGS,
)


def evaluate_graph(tokens: Sequence[str]) -> int:
    """Print the accuracy, with its 95 % interval, and the cross-entropy of a graph. Raises RegraftError."""
    options = parse_flags("regraft-evaluate-graph", "Measure a graph on a folder.", FLAGS, tokens, "graph")
    predictor = load_graph(options.graph, options)
    run = run_behind(predictor, options.checkpoint_path)
    trained = run.trained_digests() if run else frozenset()
    dataset = _as_retrain_wrote_them(open_side(options.image_dir, trained), predictor.classes)
    found, problems = evaluate(predictor, dataset)
    for problem in (*dataset.problems, *problems):
        console.warn(f"left out {problem.path}: {problem.reason}")
    if found.interval is None:
        raise DataError(f"no photo of {options.image_dir} can be read")
    low, high = found.interval
    sys.stdout.write(f"Accuracy: {found.accuracy:.4f} (N={found.n}, 95 % interval {low:.4f} to {high:.4f})\n")
    sys.stdout.write(f"Cross Entropy: {found.log_loss:.4f}\n")
    return 0


def _as_retrain_wrote_them(dataset: Dataset, labels: Sequence[str]) -> Dataset:
    """Rename classes that are not in ``labels`` as ``retrain.py`` did: lower case letters, digits and spaces."""

    def renamed(label: str) -> str:
        theirs = re.sub(r"[^a-z0-9]+", " ", label.lower())
        return theirs if label not in labels and theirs in labels else label

    records = tuple(replace(record, label=renamed(record.label)) for record in dataset.records)
    return replace(dataset, records=records, classes=tuple(sorted({record.label for record in records})))


main: Callable[..., int] = entry("regraft-evaluate-graph", evaluate_graph)


if __name__ == "__main__":
    sys.exit(main())
