"""``regraft-make-image-classifier``: train and export a classifier, as TensorFlow Hub's ``make_image_classifier`` did.

Only the exports are kept. In the original, validation photos were also used in training; here half of
``--validation_split`` is val, which chooses the head, and the other half is test.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from regraft.classifiers.classifier import Classifier
from regraft.cli.arguments import UsageError
from regraft.compat._flags import Flag, parse_flags
from regraft.compat._main import entry
from regraft.compat._names import backbone_of_module, pixels_of
from regraft.compat._outputs import require_writable, write_labels, write_output
from regraft.compat._photos import prepared_photos, training_features
from regraft.config.finetuning import FinetuneConfig
from regraft.config.training import TrainConfig
from regraft.errors import TrainingError
from regraft.features.distorted_views import Distortion
from regraft.finetuning.finetuning import finetune
from regraft.heads.logistic import LogisticRegression
from regraft.training.preparation import Clock
from regraft.training.training import conclude, tensorboard_steps

_TUNED = "used only with --do_fine_tuning; without it, the head is fitted to its optimum"
_VIEWS = "photos are cropped, enlarged and mirrored, not rotated or sheared"

FLAGS = (
    Flag("image_dir", "", "folder of class folders, or any other source of photos"),
    Flag(
        "tfhub_module",
        "https://tfhub.dev/google/tf2-preview/mobilenet_v2/feature_vector/4",
        "address of a module whose network Keras has, the folder of one, or any backbone of regraft",
    ),
    Flag("image_size", 0, "side of the photos in pixels; by default that of the network"),
    Flag("saved_model_dir", "", "folder for a SavedModel"),
    Flag("tflite_output_file", "", "file for a .tflite"),
    Flag("labels_output_file", "", "file for the labels, one a line"),
    Flag("summaries_dir", "", "folder for TensorBoard"),
    Flag("assert_accuracy_at_least", 0.0, "export only where the test accuracy is at least this, 0 to 1"),
    Flag("train_epochs", 5, f"number of epochs, {_TUNED}"),
    Flag("do_fine_tuning", False, "train the whole network"),
    Flag("batch_size", 32, f"batch size, {_TUNED}"),
    Flag("learning_rate", 0.005, f"highest learning rate, {_TUNED}"),
    Flag("momentum", 0.9, "nothing", "the momentum is always 0.9"),
    Flag("dropout_rate", 0.2, f"dropout rate on the features, {_TUNED}"),
    Flag("set_memory_growth", False, "nothing", "the memory of a GPU is TensorFlow's own setting"),
    Flag("l1_regularizer", 0.0, "nothing", "there is no L1 penalty"),
    Flag("l2_regularizer", 0.0001, f"weight decay, {_TUNED}, with a penalty chosen on val"),
    Flag("label_smoothing", 0.1, f"label smoothing: probability mass spread over all classes, {_TUNED}"),
    Flag(
        "validation_split",
        0.2,
        "share of the photos that are not trained on",
        "one half of them is val, the other half is test",
    ),
    Flag("do_data_augmentation", False, "train on several distorted views of each photo"),
    Flag("rotation_range", 40, "nothing", _VIEWS),
    Flag("horizontal_flip", True, "mirror half of the views"),
    Flag("width_shift_range", 0.2, "margin that is cut off, as a share of the side; the larger of both ranges counts"),
    Flag("height_shift_range", 0.2, "the same as --width_shift_range"),
    Flag("shear_range", 0.0, "nothing", _VIEWS),
    Flag("zoom_range", 0.2, "enlarge photos by up to this share"),
    Flag("distribution_strategy", "", "nothing", "TensorFlow trains on one device, JAX on all that it finds"),
    Flag("use_tf_data_input", True, "nothing", "photos are decoded once, and cached"),
)


def make_image_classifier(tokens: Sequence[str]) -> int:
    """Train a classifier, print its test accuracy, and write the exports. Raises RegraftError."""
    options = parse_flags("regraft-make-image-classifier", "Make an image classifier.", FLAGS, tokens)
    if not options.image_dir:
        raise UsageError("must set flag --image_dir")
    for path, is_folder in ((options.saved_model_dir, True), (options.tflite_output_file, False)):
        if path:
            require_writable(Path(path), is_folder)
    with tempfile.TemporaryDirectory() as name:
        classifier = _frozen(options, Path(name) / "frozen")
        if options.do_fine_tuning:
            classifier = finetune(Path(name) / "frozen", Path(name) / "tuned", _tuning(options))
        test = classifier.metrics["test"]
        sys.stdout.write(f"Found accuracy {test['accuracy'] or 0.0:.4f} (N={test['n']})\n")
        if (test["accuracy"] or 0.0) < options.assert_accuracy_at_least:
            wanted = f"accuracy is {test['accuracy'] or 0.0:.4f}, wanted at least {options.assert_accuracy_at_least:g}"
            raise TrainingError(f"{wanted}: nothing is exported")
        _write(classifier, options)
    return 0


def _frozen(options: Namespace, folder: Path) -> Classifier:
    """Train a head on frozen features, and write the run into ``folder``."""
    clock, half = Clock(), options.validation_split / 2
    backbone = backbone_of_module(options.tfhub_module)
    config = TrainConfig(
        backbone=backbone,
        pixels=pixels_of(backbone),
        resolution=options.image_size or None,
        val=half,
        test=half,
        folds=0,
    )
    prepared = prepared_photos(options.image_dir, config, clock)
    folder.mkdir()
    with tensorboard_steps(folder / "logs", {}) as on_step:
        head = LogisticRegression()
        head.fit(training_features(prepared, _views(options)), prepared.features.select(prepared.sides.val), on_step)
    return replace(conclude(prepared, prepared.config, head, folder, clock), path=folder)


def _views(options: Namespace) -> Distortion:
    """Return the distortions of the train photos."""
    if not options.do_data_augmentation:
        return Distortion()
    margin = 100 * max(options.width_shift_range, options.height_shift_range)
    return Distortion(options.horizontal_flip, margin, 100 * options.zoom_range)


def _tuning(options: Namespace) -> FinetuneConfig:
    """Return the fine-tuning options."""
    return FinetuneConfig(
        thaw="all",
        epochs=options.train_epochs,
        learning_rate=options.learning_rate,
        head_learning_rate=options.learning_rate,
        batch_size=options.batch_size,
        optimizer="sgd",
        weight_decay=options.l2_regularizer,
        label_smoothing=options.label_smoothing,
        dropout=options.dropout_rate,
        mixup=0.0,
        augment="colour" if options.do_data_augmentation else "crop",
    )


def _write(classifier: Classifier, options: Namespace) -> None:
    """Write the logs, labels and exports for which a path was given."""
    if options.summaries_dir and classifier.path:
        shutil.copytree(classifier.path / "logs", options.summaries_dir, dirs_exist_ok=True)
    if options.labels_output_file:
        write_labels(classifier.classes, Path(options.labels_output_file))
    if options.saved_model_dir:
        write_output(classifier, Path(options.saved_model_dir), saved_model=True)
    if options.tflite_output_file:
        write_output(classifier, Path(options.tflite_output_file))


main: Callable[..., int] = entry(
    "regraft-make-image-classifier",
    make_image_classifier,
    {
        "weights": "`regraft train --weights FILE`",
        "resolution": "--image_size PIXELS",
        "learning_rate": "--learning_rate",
        "format": "a file with another suffix",
        "disk": "fewer photos",
    },
)


if __name__ == "__main__":
    sys.exit(main())
