"""Prepare the photos of a classic command: features, split, and features of distorted views of the train photos."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from regraft.config.training import TrainConfig
from regraft.engines.base import load_engine
from regraft.features.backbone_choice import require_backbone
from regraft.features.distorted_views import VIEWS, Distortion, views_of
from regraft.features.features import Features, extract
from regraft.training.preparation import Clock, Prepared, open_labelled, prepare, require_trainable


def prepared_photos(spec: str, config: TrainConfig, clock: Clock) -> Prepared:
    """Read the photos, compute their features and split them; warn of what is wrong with them.

    Raises:
        RegraftError: the photos cannot make a classifier.
    """
    require_backbone(config)
    prepared = prepare(open_labelled(spec, config), config, clock, spec)
    require_trainable(prepared)
    return prepared


def training_features(prepared: Prepared, how: Distortion) -> Features:
    """Return the features of the train photos; where distortions are asked for, those of `VIEWS` views of each."""
    train = prepared.features.select(prepared.sides.train)
    if not how.any:
        return train
    views = views_of([prepared.dataset.records[i] for i in prepared.sides.train], how)
    x = extract(views, load_engine(prepared.backbone, prepared.config)).x
    certainty = None if train.certainty is None else np.repeat(train.certainty, VIEWS)
    digests = tuple(v.digest for v in views)
    return replace(train, x=x, y=np.repeat(train.y, VIEWS), digests=digests, certainty=certainty)
