"""regraft: a folder of labelled photos → an image classifier, by transfer learning.

Names are imported on first use, so that ``import regraft`` loads no framework.
"""

TYPE_CHECKING = False  # imported from typing, it would be the first module that ``python -m regraft`` looks for
if TYPE_CHECKING:
    from typing import Any

    from regraft.backbones.base import Backbone, load_backbone
    from regraft.classifiers.classifier import Classifier
    from regraft.classifiers.evaluation import Evaluation, measure
    from regraft.classifiers.prediction import Prediction
    from regraft.classifiers.predictor import Predictor
    from regraft.config.exporting import ExportConfig
    from regraft.config.features import FeatureConfig
    from regraft.config.finetuning import FinetuneConfig
    from regraft.config.sharding import ShardConfig
    from regraft.config.sweeping import SweepConfig
    from regraft.config.training import TrainConfig
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
    from regraft.exploring.auditing import Audit, check
    from regraft.exploring.drift_record import Drift
    from regraft.exploring.embedding import embed
    from regraft.exploring.next_photos import NextPhoto, NextPhotos, next_photos
    from regraft.exploring.photo_drift import check_drift
    from regraft.exploring.similarity import SimilarPhoto, SimilarPhotos, similar
    from regraft.exporting.companions import Export
    from regraft.exporting.exporting import export
    from regraft.exporting.formats.base import load_predictor
    from regraft.finetuning.finetuning import finetune
    from regraft.photos.dataset import Dataset, ImageRecord
    from regraft.photos.images import Problem, Transform
    from regraft.photos.splitting import Split, split
    from regraft.predicting import evaluate, predict, predict_each
    from regraft.reporting.plots import plot_predictions
    from regraft.reporting.report_building import report
    from regraft.reporting.report_record import Report
    from regraft.sharding import shard
    from regraft.sweeping.sweeping import Sweep, sweep
    from regraft.training.cross_validation import CrossValidation, cross_validate
    from regraft.training.training import train

_HOMES = {
    "Audit": "exploring.auditing",
    "Backbone": "backbones.base",
    "BackboneError": "errors",
    "Classifier": "classifiers.classifier",
    "ConfigError": "errors",
    "CrossValidation": "training.cross_validation",
    "DataError": "errors",
    "Dataset": "photos.dataset",
    "Drift": "exploring.drift_record",
    "Evaluation": "classifiers.evaluation",
    "Export": "exporting.companions",
    "ExportConfig": "config.exporting",
    "ExportError": "errors",
    "FeatureConfig": "config.features",
    "FinetuneConfig": "config.finetuning",
    "ImageError": "errors",
    "ImageRecord": "photos.dataset",
    "NextPhoto": "exploring.next_photos",
    "NextPhotos": "exploring.next_photos",
    "Prediction": "classifiers.prediction",
    "Predictor": "classifiers.predictor",
    "Problem": "photos.images",
    "RegraftError": "errors",
    "Report": "reporting.report_record",
    "RunError": "errors",
    "ShardConfig": "config.sharding",
    "SimilarPhoto": "exploring.similarity",
    "SimilarPhotos": "exploring.similarity",
    "Split": "photos.splitting",
    "Sweep": "sweeping.sweeping",
    "SweepConfig": "config.sweeping",
    "TrainConfig": "config.training",
    "TrainingError": "errors",
    "Transform": "photos.images",
    "check": "exploring.auditing",
    "check_drift": "exploring.photo_drift",
    "cross_validate": "training.cross_validation",
    "embed": "exploring.embedding",
    "evaluate": "predicting",
    "export": "exporting.exporting",
    "finetune": "finetuning.finetuning",
    "load_backbone": "backbones.base",
    "load_predictor": "exporting.formats.base",
    "measure": "classifiers.evaluation",
    "next_photos": "exploring.next_photos",
    "plot_predictions": "reporting.plots",
    "predict": "predicting",
    "predict_each": "predicting",
    "report": "reporting.report_building",
    "shard": "sharding",
    "similar": "exploring.similarity",
    "split": "photos.splitting",
    "sweep": "sweeping.sweeping",
    "train": "training.training",
}

__all__ = [
    "Audit",
    "Backbone",
    "BackboneError",
    "Classifier",
    "ConfigError",
    "CrossValidation",
    "DataError",
    "Dataset",
    "Drift",
    "Evaluation",
    "Export",
    "ExportConfig",
    "ExportError",
    "FeatureConfig",
    "FinetuneConfig",
    "ImageError",
    "ImageRecord",
    "NextPhoto",
    "NextPhotos",
    "Prediction",
    "Predictor",
    "Problem",
    "RegraftError",
    "Report",
    "RunError",
    "ShardConfig",
    "SimilarPhoto",
    "SimilarPhotos",
    "Split",
    "Sweep",
    "SweepConfig",
    "TrainConfig",
    "TrainingError",
    "Transform",
    "__version__",
    "check",
    "check_drift",
    "cross_validate",
    "embed",
    "evaluate",
    "export",
    "finetune",
    "load_backbone",
    "load_predictor",
    "measure",
    "next_photos",
    "plot_predictions",
    "predict",
    "predict_each",
    "report",
    "shard",
    "similar",
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
