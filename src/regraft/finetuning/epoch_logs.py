"""The learning curves of a fine-tuning as TensorBoard logs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regraft.finetuning.thawed_network import Thawed
from regraft.finetuning.training_loop import Epoch
from regraft.foundation.tensorboard import EventFile


class EpochLogs:
    """Learning curves in two TensorBoard runs, ``train`` and ``validation``, with a point for each epoch."""

    def __init__(self, logs: Path, hyperparameters: Mapping[str, Any], thawed: Thawed, histograms: bool) -> None:
        self._train, self._validation = EventFile(logs / "train"), EventFile(logs / "validation")
        if hyperparameters:
            self._train.hyperparameters(hyperparameters)
        self._train.graph(thawed.model.to_json())
        self._variables = thawed.model.trainable_variables if histograms else []

    def __enter__(self) -> EpochLogs:
        return self

    def __call__(self, epoch: Epoch) -> None:
        """Write the figures of one epoch."""
        self._train.scalars(
            epoch.number,
            {
                "accuracy": epoch.train_accuracy,
                "cross_entropy": epoch.train_loss,
                "top_5": epoch.train_top5,
                "learning_rate": epoch.learning_rate,
            },
        )
        self._train.histograms(epoch.number, {v.path: np.asarray(v.numpy(), np.float32) for v in self._variables})
        self._validation.scalars(
            epoch.number,
            {"accuracy": epoch.val_accuracy, "cross_entropy": epoch.val_loss, "top_5": epoch.val_top5},
        )

    def __exit__(self, *_: Any) -> None:
        self._train.close()
        self._validation.close()
