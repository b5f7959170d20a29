"""ResNet-50 with frozen blocks: ``keras_resnet50.py PHOTOS NEW OUT [BACKBONE [EPOCHS [DEPTHS [MODULE]]]]``.

What docs/how-to/keras-resnet50.md goes through, as a script.
"""

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure

import regraft


def main(
    photos: str = "tfds:cifar100",
    new: str = "new/",
    out: str = "runs/cifar100",
    backbone: str = "keras:resnet50",
    epochs: str = "300",
    depths: str = "3",
    module: str = "",
) -> None:
    """All steps, one after the other."""
    # the data set
    dataset = regraft.Dataset.open(photos)
    print(dataset.counts())

    # the frozen network
    config = regraft.TrainConfig(backbone=backbone, resolution=224, folds=0)
    frozen = regraft.train(photos, f"{out}/frozen", config)
    print(frozen.metrics["test"]["accuracy"], frozen.metrics["test"]["top5"], frozen.metrics["test"]["interval"])

    # its last blocks, trained until val loss has not improved for 8 epochs
    tuning = regraft.FinetuneConfig(optimizer="sgd", learning_rate=0.01, batch_size=32, epochs=int(epochs), patience=8)
    tuned = regraft.finetune(f"{out}/frozen", f"{out}/tuned", tuning)
    print(tuned.metrics["test"]["accuracy"], tuned.metrics["finetuned"]["epochs"])

    # the history, three rows of two
    history = json.loads(Path(f"{out}/tuned/history.json").read_text())
    figure = Figure(figsize=(9, 9), layout="constrained")
    cells = figure.subplots(3, 2, sharex=True, sharey="row")
    for row, name in enumerate(("loss", "accuracy", "top5")):
        for column, side in enumerate(("train", "val")):
            values = [(epoch["number"], epoch[f"{side}_{name}"]) for epoch in history]
            cells[row, column].plot(*zip(*[(n, v) for n, v in values if v is not None], strict=True), marker=".")
            cells[row, column].set(title=f"{side} {name}", xlabel="epoch")
    figure.savefig(f"{out}/history-3x2.png")

    # a folder of photos, each beside its five most probable classes
    answers = regraft.predict(tuned, [new], top=5)
    regraft.plot_predictions(answers, Path(f"{out}/grid.png"))
    print(answers[0].path, answers[0].top)

    # how many macro-blocks to train: none, the last, the last two, ...
    stages = regraft.load_backbone(backbone).stages
    thaw = ",".join(["0", *(f"stage:{stage}" for stage in stages[::-1][: int(depths)])])
    sweep = regraft.sweep(photos, f"{out}/depths", regraft.SweepConfig(backbone=backbone, thaw=thaw), config, tuning)
    for trial in sweep.trials:
        print(trial.name, trial.accuracy)

    # a feature vector from TensorFlow Hub, as it was downloaded
    if module:
        config = regraft.TrainConfig(backbone=f"file:{module}", pixels="0..1", folds=0)
        hub = regraft.train(photos, f"{out}/hub", config)
        print(hub.metrics["test"]["accuracy"])


if __name__ == "__main__":
    main(*sys.argv[1:])
