"""The end of a fine-tuning: from trained weights to the new classifier, with its head, its calibration and its figures.

In: the thawed network after training. Out: a `Classifier` whose run is not yet written.
Why: a run is measured through the engine that predictions will use, on the weights as they are in its file.
Surprise: the head that was trained together with the blocks is linear. A run with a kernel head gets a kernel head
again. It is fitted on the new features and, beside them, those of the frozen blocks: each kind helps with other photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from regraft.backbones.base import Backbone, load_backbone
from regraft.backbones.side_by_side import stage_widths
from regraft.backbones.tuned_weights import write_weights
from regraft.classifiers.classifier import Classifier
from regraft.classifiers.run_folder import LAYOUT
from regraft.config.training import OF_ONE_HEAD, TrainConfig
from regraft.engines.base import load_engine
from regraft.features.features import Features, extract
from regraft.finetuning.starting_point import Opened, in_floats
from regraft.finetuning.thawed_network import Thawed
from regraft.heads.base import Head, head_of
from regraft.heads.logistic import LogisticRegression
from regraft.photos.splitting import Split, group_counts
from regraft.training.training import calibrate, evaluate_side

_FITTED_AGAIN = "kernel"
"""The head that is fitted again, on the new features (benchmarks/README.md)."""

_NOVELTY_PHOTOS = 1000
"""The most train photos whose features are computed with the new weights, to fit the novelty."""


def linear_options(before: Classifier) -> TrainConfig:
    """Return the options of a run with a linear head, defaults for the options of other heads, no folds and no int8."""
    defaults = TrainConfig()
    others = {name: getattr(defaults, name) for name, head in OF_ONE_HEAD.items() if head != defaults.head}
    return replace(in_floats(before), head=defaults.head, folds=0, **others)


def tuned_backbone(before: Classifier, weights: Path, beside: int = 0) -> Backbone:
    """Return the backbone of a run with fine-tuned weights.

    Args:
        before: the classifier of the run.
        weights: the file of weights, which `write_weights` wrote.
        beside: the number of fine-tuned blocks whose frozen features stand beside the new ones; 0 for the new features
            alone.
    """
    old = before.backbone
    options = {key: getattr(old.options, key) for key in ("stages", "weights", "pixels", "symmetry")}
    joined = str(beside) if beside else ""
    return load_backbone(old.name, old.transform.size, **options, tuned=str(weights.resolve()), beside=joined)


def write_learned(thawed: Thawed, folder: Path) -> LogisticRegression:
    """Write the current weights of the backbone into ``folder``, and return the current head."""
    thawed.upper.write_back()
    learned = [original for original, _, _ in thawed.upper.layers]
    write_weights(thawed.whole, learned, folder / LAYOUT.backbone, thawed.backbone.options.tuned)
    weight, bias = (np.asarray(w, np.float32) for w in thawed.dense.get_weights())
    return LogisticRegression.from_state({"weight": weight, "bias": bias})


def conclude(
    opened: Opened,
    before: Classifier,
    sides: Split,
    thawed: Thawed,
    folder: Path,
    measured: Sequence[str],
) -> Classifier:
    """Write the new weights, and return the new classifier, measured through the engine that predictions will use.

    Args:
        opened: the run, and its photos with their old features.
        before: the classifier from which the training started.
        sides: the split of the photos.
        thawed: the network after training.
        folder: the folder of the new run, into which the weights are written.
        measured: the sides to measure on, of ``val`` and ``test``.
    """
    trained = write_learned(thawed, folder)
    is_fitted_again = opened.before.config.head == _FITTED_AGAIN
    config = replace(in_floats(before), folds=0) if is_fitted_again else linear_options(before)
    # An earlier fine-tuning may have changed more blocks, so that both networks have no frozen blocks in common.
    beside = thawed.blocks if is_fitted_again and not before.backbone.options.tuned else 0
    backbone = tuned_backbone(before, folder / LAYOUT.backbone, beside)
    shown = sides.train[:: -(-len(sides.train) // _NOVELTY_PHOTOS)]
    learned_from = (*sides.train, *sides.val) if is_fitted_again else shown
    wanted = sorted({*learned_from, *(i for side in measured for i in getattr(sides, side))})
    dataset = opened.dataset
    engine = load_engine(backbone, config, trained=before.precision)
    extraction = extract([dataset.records[i] for i in wanted], engine)
    x = np.full((len(dataset.records), extraction.x.shape[1]), np.nan, np.float32)
    x[wanted] = extraction.x
    features = replace(opened.features, x=x, backbone=backbone.name, stages=stage_widths(backbone))
    head = _fitted(config, features, sides) if is_fitted_again else trained
    calibration = calibrate(head, features, replace(sides, train=shown), backbone, config)
    found = {
        side: evaluate_side(head, features, dataset, getattr(sides, side) if side in measured else (), calibration)
        for side in ("val", "test")
    }
    kept = {key: before.metrics[key] for key in ("classes", "problems", "duplicate_groups") if key in before.metrics}
    counts = {side: len(getattr(sides, side)) for side in ("train", "val", "test")}
    computed = {"computed": extraction.computed, "cached": extraction.cached}
    evaluations = {side: evaluation.to_dict() for side, evaluation in found.items()}
    metrics = {**kept, "counts": counts, "groups": group_counts(dataset, sides), **evaluations, "features": computed}
    return Classifier(
        backbone,
        head,
        dataset.classes,
        config,
        metrics,
        folder,
        source=before.source,
        calibration=calibration,
        precision=before.precision,
    )


def _fitted(config: TrainConfig, features: Features, sides: Split) -> Head:
    """Return the head of the options, fitted on the new features of the train side."""
    return head_of(config).fit(features.select(sides.train), features.select(sides.val))
