"""scikit-learn on features of the frozen network: python sklearn_peer.py MANIFEST TABLE WEIGHTS SEED.

The features are the pooled outputs of the last layer at 224 px, with the transform that timm has for the network.
`LogisticRegressionCV` chooses its C by its own cross validation, so that it learns from the photos of val too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import timm
import torch
from _answers import Photo, arguments, read_fold, write_answers
from PIL import Image
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from timm.data import create_transform, resolve_model_data_config

BATCH = 32


def main() -> None:
    manifest, table, weights, seed = arguments()
    fold = read_fold(manifest)
    network = timm.create_model(
        "tf_efficientnet_lite0", pretrained=True, pretrained_cfg_overlay={"file": weights}, num_classes=0
    ).eval()
    known = fold.train + fold.val
    folds = StratifiedKFold(5, shuffle=True, random_state=int(seed))
    head = LogisticRegressionCV(Cs=10, cv=folds, max_iter=1000, n_jobs=-1)
    head.fit(features(network, known), [photo.label for photo in known])
    write_answers(table, fold.test, head.predict(features(network, fold.test)))


def features(network: torch.nn.Module, photos: Sequence[Photo]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the pooled outputs of the last layer for the photos (N, 1280)."""
    transform = create_transform(**resolve_model_data_config(network))
    rows = []
    for start in range(0, len(photos), BATCH):
        batch = [transform(Image.open(photo.path).convert("RGB")) for photo in photos[start : start + BATCH]]
        with torch.inference_mode():
            rows.append(network(torch.stack(batch)).numpy())
    return np.concatenate(rows)


if __name__ == "__main__":
    main()
