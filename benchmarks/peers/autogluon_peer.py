"""AutoGluon MultiModal with its defaults: python autogluon_peer.py MANIFEST TABLE WEIGHTS SEED.

Only the network is told, as a folder in the layout of `save_for_hf` of timm. AutoGluon then trains all layers for up
to 20 epochs, stops early by its score on the photos of val, and averages the weights of its best checkpoints.
"""

from __future__ import annotations

import tempfile

import pandas as pd
import timm
from _answers import arguments, read_fold, write_answers
from autogluon.multimodal import MultiModalPredictor
from timm.models._hub import save_for_hf


def main() -> None:
    manifest, table, weights, seed = arguments()
    fold = read_fold(manifest)
    with tempfile.TemporaryDirectory() as folder:
        network = timm.create_model(
            "tf_efficientnet_lite0", pretrained=True, pretrained_cfg_overlay={"file": weights}, num_classes=0
        )
        save_for_hf(network, f"{folder}/network", safe_serialization=False)
        predictor = MultiModalPredictor(label="label", problem_type="classification", path=f"{folder}/run")
        predictor.fit(
            pd.DataFrame(fold.train),
            tuning_data=pd.DataFrame(fold.val),
            hyperparameters={
                "model.names": ["timm_image"],
                "model.timm_image.checkpoint_name": f"{folder}/network",
            },
            column_types={"path": "image_path"},
            seed=int(seed),
        )
        labels = predictor.predict(pd.DataFrame(fold.test).drop(columns="label"), as_pandas=False)
    write_answers(table, fold.test, labels)


if __name__ == "__main__":
    main()
