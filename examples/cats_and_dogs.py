"""MobileNetV2 at 160 px: ``python examples/cats_and_dogs.py PHOTOS NEW OUT [BACKBONE [EPOCHS]]``.

What docs/how-to/cats-and-dogs.md goes through, as a script.
"""

import sys
from pathlib import Path

import regraft


def main(
    photos: str = "tfds:cats_vs_dogs",
    new: str = "new/",
    out: str = "runs/cats-and-dogs",
    backbone: str = "keras:mobilenet_v2",
    epochs: str = "10",
) -> None:
    """All steps, one after the other."""
    # 80, 10 and 10 % of the photos; damaged ones are named and left out
    dataset = regraft.Dataset.open(photos)
    print(dataset.counts(), len(dataset.problems))

    # feature extraction: the network stays as it is, a head is fitted to what it sees
    config = regraft.TrainConfig(backbone=backbone, resolution=160, val=0.1, test=0.1, folds=0)
    extracted = regraft.train(photos, f"{out}/extracted", config)
    print(extracted.metrics["test"]["accuracy"], extracted.metrics["test"]["interval"])

    # fine-tuning: the last blocks learn too; history.png has a line where that begins
    tuning = regraft.FinetuneConfig(epochs=int(epochs), dropout=0.2, batch_size=32)
    tuned = regraft.finetune(f"{out}/extracted", f"{out}/tuned", tuning)
    print(tuned.metrics["test"]["accuracy"], tuned.metrics["test"]["interval"])

    # nine answers
    answers = regraft.predict(tuned, [new], top=2)[:9]
    regraft.plot_predictions(answers, Path(f"{out}/grid.png"))

    # what the tutorial left out: a file for a phone, compared with what was trained
    exported = regraft.export(f"{out}/tuned", f"{out}/phone", regraft.ExportConfig("litert"))
    print(exported.artifact, exported.comparison.agreement)


if __name__ == "__main__":
    main(*sys.argv[1:])
