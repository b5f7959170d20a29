"""regraft: a folder of labelled photos → an image classifier, by transfer learning.

Names are imported on first use, so that ``import regraft`` loads no framework.
"""

TYPE_CHECKING = False  # imported from typing, it would be the first module that ``python -m regraft`` looks for
if TYPE_CHECKING:
    from typing import Any

    from regraft.asking import evaluate, predict, predict_each
    from regraft.audit import Audit, check
    from regraft.backbones import Backbone, load_backbone
    from regraft.classifier import Classifier
    from regraft.config import ExportConfig, FeatureConfig, FinetuneConfig, ShardConfig, SweepConfig, TrainConfig
    from regraft.dataset import Dataset, ImageRecord
    from regraft.errors import (
        BackboneError,
        ConfigError,
        DataError,
        ExportError,
        ImageError,
        RegraftError,
        RunError,
        TrainingError,
    )
    from regraft.evaluation import Evaluation, Predictor, measure
    from regraft.exporters import load_predictor
    from regraft.exporting import Export, export
    from regraft.finetuning import finetune
    from regraft.images import Problem, Transform
    from regraft.plots import plot_predictions
    from regraft.prediction import Prediction
    from regraft.shards import shard
    from regraft.splitting import Split, split
    from regraft.sweeping import Sweep, sweep
    from regraft.training import train

_HOMES = {
    "Audit": "audit",
    "Backbone": "backbones",
    "BackboneError": "errors",
    "Classifier": "classifier",
    "ConfigError": "errors",
    "DataError": "errors",
    "Dataset": "dataset",
    "Evaluation": "evaluation",
    "Export": "exporting",
    "ExportConfig": "config",
    "ExportError": "errors",
    "FeatureConfig": "config",
    "FinetuneConfig": "config",
    "ImageError": "errors",
    "ImageRecord": "dataset",
    "Prediction": "prediction",
    "Predictor": "evaluation",
    "Problem": "images",
    "RegraftError": "errors",
    "RunError": "errors",
    "ShardConfig": "config",
    "Split": "splitting",
    "Sweep": "sweeping",
    "SweepConfig": "config",
    "TrainConfig": "config",
    "TrainingError": "errors",
    "Transform": "images",
    "check": "audit",
    "evaluate": "asking",
    "export": "exporting",
    "finetune": "finetuning",
    "load_backbone": "backbones",
    "load_predictor": "exporters",
    "measure": "evaluation",
    "plot_predictions": "plots",
    "predict": "asking",
    "predict_each": "asking",
    "shard": "shards",
    "split": "splitting",
    "sweep": "sweeping",
    "train": "training",
}

__all__ = [
    "Audit",
    "Backbone",
    "BackboneError",
    "Classifier",
    "ConfigError",
    "DataError",
    "Dataset",
    "Evaluation",
    "Export",
    "ExportConfig",
    "ExportError",
    "FeatureConfig",
    "FinetuneConfig",
    "ImageError",
    "ImageRecord",
    "Prediction",
    "Predictor",
    "Problem",
    "RegraftError",
    "RunError",
    "ShardConfig",
    "Split",
    "Sweep",
    "SweepConfig",
    "TrainConfig",
    "TrainingError",
    "Transform",
    "__version__",
    "check",
    "evaluate",
    "export",
    "finetune",
    "load_backbone",
    "load_predictor",
    "measure",
    "plot_predictions",
    "predict",
    "predict_each",
    "shard",
    "split",
    "sweep",
    "train",
]


def __getattr__(name: str) -> "Any":
    if name == "__version__":
        from importlib.metadata import version

        return version("regraft")
    if name not in _HOMES:
        raise AttributeError(f"module 'regraft' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"regraft.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
