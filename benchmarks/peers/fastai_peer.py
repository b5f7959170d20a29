"""fastai as its vision tutorial has it: python fastai_peer.py MANIFEST TABLE WEIGHTS SEED.

`vision_learner` and `fine_tune(3)`, so an epoch of the head and three of all layers, with the tutorial's presizing to
460 px and augmentation at 224 px. Photos are decoded in the process itself, as two cores are busy with the network.
"""

from __future__ import annotations

import pandas as pd
from _answers import arguments, read_fold, write_answers
from fastai.vision.all import (
    CategoryBlock,
    ColReader,
    ColSplitter,
    DataBlock,
    ImageBlock,
    Resize,
    aug_transforms,
    set_seed,
    vision_learner,
)

EPOCHS = 3


def main() -> None:
    manifest, table, weights, seed = arguments()
    fold = read_fold(manifest)
    set_seed(int(seed))
    photos = pd.DataFrame(fold.train + fold.val).assign(is_valid=[False] * len(fold.train) + [True] * len(fold.val))
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=fold.classes)),
        get_x=ColReader("path"),
        get_y=ColReader("label"),
        splitter=ColSplitter("is_valid"),
        item_tfms=Resize(460),
        batch_tfms=aug_transforms(size=224),
    )
    loaders = block.dataloaders(photos, num_workers=0)
    learner = vision_learner(loaders, "tf_efficientnet_lite0", pretrained_cfg_overlay={"file": weights})
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(EPOCHS)
        test = loaders.test_dl(pd.DataFrame(fold.test), num_workers=0)
        probabilities, _ = learner.get_preds(dl=test)
    write_answers(table, fold.test, (fold.classes[i] for i in probabilities.argmax(dim=1).tolist()))


if __name__ == "__main__":
    main()
