"""Photos made ready to learn from; features of the training ones, or of distorted views of them."""

from __future__ import annotations

import numpy as np

from regraft.accelerator import load_engine
from regraft.config import TrainConfig
from regraft.dataset import Dataset
from regraft.distortion import VIEWS, Distortion, views_of
from regraft.features import Features, extract
from regraft.selection import require_backbone
from regraft.training import (
    Clock,
    Prepared,
    check_trainable,
    prepare,
    report_problems,
    require_two_classes,
    whole_spec,
)


def prepared_photos(spec: str, config: TrainConfig, clock: Clock) -> Prepared:
    """Read, computed, split; what is wrong with them is told. Raises RegraftError where nothing can be learned."""
    require_backbone(config)
    dataset = Dataset.open(spec)
    require_two_classes(dataset)
    prepared = prepare(dataset, config, clock, whole_spec(spec))
    report_problems(prepared.dataset.problems)
    check_trainable(prepared.dataset, prepared.sides)
    return prepared


def training_features(prepared: Prepared, how: Distortion) -> Features:
    """Those of the train side; of views where views are asked for."""
    train = prepared.features.select(prepared.sides.train)
    if not how.any:
        return train
    views = views_of([prepared.dataset.records[i] for i in prepared.sides.train], how)
    x = extract(views, load_engine(prepared.backbone, prepared.config)).x
    return Features(x, np.repeat(train.y, VIEWS), train.classes, tuple(v.digest for v in views), train.backbone)
