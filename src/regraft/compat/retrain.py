"""``regraft-retrain``: train and export, with the flags of TensorFlow Hub's and TensorFlow-for-Poets' ``retrain.py``.

Photos are split by their content, features are cached (also those of distorted photos), and the head is trained for the
given number of steps. No file is deleted that regraft did not write.
"""

from __future__ import annotations

import datetime
import math
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from regraft.classifiers.classifier import Classifier
from regraft.classifiers.run_folder import is_run, read_manifest
from regraft.cli.arguments import UsageError
from regraft.compat._flags import Flag, parse_flags
from regraft.compat._main import entry
from regraft.compat._names import INCEPTION, backbone_of_architecture, backbone_of_module, pixels_of, weights_in
from regraft.compat._outputs import require_writable, write_labels, write_output
from regraft.compat._photos import prepared_photos, training_features
from regraft.config.training import TrainConfig
from regraft.features.distorted_views import Distortion
from regraft.foundation import console
from regraft.foundation.files import write_text
from regraft.foundation.places import Product, claimed
from regraft.foundation.tensorboard import EventFile
from regraft.heads.base import Step
from regraft.heads.sgd import GradientDescent
from regraft.training.preparation import Clock, Prepared
from regraft.training.training import conclude

FLAGS = (
    Flag("image_dir", "", "folder of class folders, or any other source of photos"),
    Flag(
        "output_graph",
        "/tmp/output_graph.pb",
        "the export: .pb, .tflite, .onnx, .xml, .keras, or a SavedModel's folder",
    ),
    Flag("intermediate_output_graphs_dir", "/tmp/intermediate_graph/", "folder for intermediate exports"),
    Flag("intermediate_store_frequency", 0, "number of steps between intermediate exports; 0 for none"),
    Flag("output_labels", "/tmp/output_labels.txt", "file for the labels, one a line"),
    Flag(
        "summaries_dir",
        "/tmp/retrain_logs",
        "folder for TensorBoard",
        "only what regraft wrote there before is replaced; retrain.py deleted the whole folder",
    ),
    Flag("how_many_training_steps", 4000, "number of steps of gradient descent"),
    Flag("learning_rate", 0.01, "learning rate, on standardised features"),
    Flag("testing_percentage", 10, "share of the photos for test, in %"),
    Flag("validation_percentage", 10, "share of the photos for validation, in %"),
    Flag("eval_step_interval", 10, "number of steps between printed accuracies"),
    Flag("train_batch_size", 100, "batch size"),
    Flag("test_batch_size", -1, "nothing", "all test photos are always measured"),
    Flag("validation_batch_size", 100, "nothing", "all validation photos are always measured"),
    Flag("print_misclassified_test_images", False, "list the misclassified test photos"),
    Flag(
        "bottleneck_dir",
        "/tmp/bottleneck",
        "nothing",
        "features are cached in regraft's own cache (`regraft info cache`)",
    ),
    Flag("final_tensor_name", "final_result", "a further name of the output probabilities in a .pb"),
    Flag("flip_left_right", False, "mirror half of the distorted photos"),
    Flag("random_crop", 0, "width of the margin, in %, of which random parts are cut off"),
    Flag("random_scale", 0, "largest random enlargement, in %"),
    Flag("random_brightness", 0, "largest random change of brightness, in %"),
    Flag("tfhub_module", INCEPTION, "address of a module whose network Keras has, or the folder of one"),
    Flag("saved_model_dir", "", "folder for a SavedModel"),
    Flag("logging_verbosity", "INFO", "DEBUG, INFO, WARN, ERROR or FATAL: from WARN on, the steps are not printed"),
    Flag("checkpoint_path", "/tmp/_retrain_checkpoint", "the run folder", "it becomes a run folder of regraft"),
    Flag(
        "model_dir", "/tmp/imagenet", "folder that may hold Keras' file of weights; else Keras downloads it to ~/.keras"
    ),
    Flag("architecture", "", "inception_v3, mobilenet_0.50_224, or any backbone; it replaces --tfhub_module"),
    Flag("image_size", 0, "side of the photos in pixels; by default that of the network"),
)
"""The flags of both original programs, with their defaults.

``--image_size`` is new: there the size of photos was a part of the architecture's name.
"""

_MARK = "written-by-regraft.txt"  # in a folder of TensorBoard logs whose event files may be replaced


def retrain(tokens: Sequence[str]) -> int:
    """Train a head, print its accuracies, and write the exports. Raises RegraftError."""
    options = parse_flags("regraft-retrain", "Retrain the top of a network on your photos.", FLAGS, tokens)
    config = _config(options)
    folder, clock = Path(options.checkpoint_path), Clock()
    require_writable(Path(options.output_graph))
    if options.saved_model_dir:
        require_writable(Path(options.saved_model_dir), saved_model=True)
    with claimed(folder, _CHECKPOINT) as place:
        prepared = prepared_photos(options.image_dir, config, clock)
        for label, count in prepared.dataset.counts().items():
            if count < 20:
                console.warn(f"the folder of {label} has less than 20 images, which may cause issues")
        head, stored = _fitted(prepared, options)
        classifier = conclude(prepared, prepared.config, head, place.fresh, clock)
    classifier = replace(classifier, path=place.path)
    _tell(classifier, options)
    _write(classifier, prepared, stored, options)
    return 0


def _is_ours(folder: Path) -> bool:
    """Return whether this command may replace a folder: a run with the head ``sgd``, which is not `train`'s default."""
    return is_run(folder) and read_manifest(folder).head == "sgd"


_CHECKPOINT = Product("a run of regraft-retrain", _is_ours, option="checkpoint_path", overwrite="")


def _config(options: Namespace) -> TrainConfig:
    """Return the training options. Raises UsageError for a flag with an impossible value."""
    if not options.image_dir:
        raise UsageError("must set flag --image_dir")
    if options.logging_verbosity not in ("DEBUG", "INFO", "WARN", "ERROR", "FATAL"):
        raise UsageError(
            f"unknown logging verbosity {options.logging_verbosity!r}; choose from DEBUG, INFO, WARN, ERROR, FATAL"
        )
    named = backbone_of_architecture(options.architecture) if options.architecture else ""
    backbone = named or backbone_of_module(options.tfhub_module)
    return TrainConfig(
        backbone=backbone,
        weights=weights_in(options.model_dir, backbone),
        pixels=pixels_of(backbone),
        resolution=options.image_size or None,
        head="sgd",
        learning_rate=options.learning_rate,
        steps=options.how_many_training_steps,
        batch_size=max(0, options.train_batch_size),
        val=options.validation_percentage / 100,
        test=options.testing_percentage / 100,
        folds=0,
    )


def _fitted(prepared: Prepared, options: Namespace) -> tuple[GradientDescent, dict[int, GradientDescent]]:
    """Train the head.

    Returns:
        The head after the last step, and copies of it for the intermediate exports, by the number of the step.
    """
    frequency = max(0, options.intermediate_store_frequency)
    interval = max(1, options.eval_step_interval)
    head = GradientDescent(
        options.learning_rate,
        options.how_many_training_steps,
        max(0, options.train_batch_size),
        math.gcd(interval, frequency) if frequency else interval,  # `on_step` sees each step that either flag asks for
        balanced=True,
    )
    stored: dict[int, GradientDescent] = {}
    how = Distortion(options.flip_left_right, options.random_crop, options.random_scale, options.random_brightness)
    train, val = training_features(prepared, how), prepared.features.select(prepared.sides.val)
    curves = _curves(Path(options.summaries_dir))
    quiet = options.logging_verbosity in ("WARN", "ERROR", "FATAL")

    def on_step(step: Step) -> None:
        if frequency and step.number % frequency == 0:
            stored[step.number] = GradientDescent.from_state(head.state())
        if step.number % interval == 0 or step.number in (1, options.how_many_training_steps):
            curves[0].scalars(step.number, {"accuracy_1": step.train_accuracy, "cross_entropy_1": step.train_loss})
            if not np.isnan(step.val_accuracy):
                values = {"accuracy_1": step.val_accuracy, "cross_entropy_1": step.val_loss}
                curves[1].scalars(step.number, values)
            if not quiet:
                _print_step(step, len(val))

    head.fit(train, val, on_step)
    for curve in curves:
        curve.close()
    return head, stored


def _curves(folder: Path) -> tuple[EventFile, EventFile]:
    """Return TensorBoard event files for ``train`` and ``validation``; delete those of an earlier regraft-retrain."""
    if (folder / _MARK).is_file():
        for name in ("train", "validation"):
            for file in (folder / name).glob("events.out.tfevents.*"):
                file.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / _MARK, "regraft-retrain replaces the event files in train/ and validation/.\n")
    return EventFile(folder / "train"), EventFile(folder / "validation")


def _print_step(step: Step, n: int) -> None:
    """Print the figures of a step in the form of the original command; ``n`` is the number of val photos."""
    now = datetime.datetime.now()
    lines = [f"Train accuracy = {step.train_accuracy:.1%}", f"Cross entropy = {step.train_loss:.6f}"]
    if n:
        lines.append(f"Validation accuracy = {step.val_accuracy:.1%} (N={n})")
    for line in lines:
        sys.stdout.write(f"{now}: Step {step.number}: {line}\n")


def _tell(classifier: Classifier, options: Namespace) -> None:
    """Print the test accuracy and, where it is asked for, the misclassified test photos."""
    test = classifier.metrics["test"]
    if test["n"]:
        sys.stdout.write(f"Final test accuracy = {test['accuracy']:.1%} (N={test['n']})\n")
    if options.print_misclassified_test_images:
        sys.stdout.write("=== MISCLASSIFIED TEST IMAGES ===\n")
        for mistake in test["mistakes"]:
            sys.stdout.write(f"{console.printable(mistake['path']):>70}  {console.printable(mistake['predicted'])}\n")


def _write(classifier: Classifier, prepared: Prepared, stored: dict[int, GradientDescent], options: Namespace) -> None:
    """Write the labels, the intermediate exports and the final exports."""
    write_labels(classifier.classes, Path(options.output_labels))
    suffix = Path(options.output_graph).suffix or ".pb"
    with tempfile.TemporaryDirectory() as name:
        for number, head in stored.items():
            early = conclude(prepared, prepared.config, head, _made(Path(name) / str(number)), Clock())
            target = Path(options.intermediate_output_graphs_dir) / f"intermediate_{number}{suffix}"
            write_output(early, target, options.final_tensor_name)
    write_output(classifier, Path(options.output_graph), options.final_tensor_name)
    if options.saved_model_dir:
        write_output(classifier, Path(options.saved_model_dir), saved_model=True)
    console.say(f"run: {classifier.path}")


def _made(folder: Path) -> Path:
    """Make a folder, and return its path."""
    folder.mkdir()
    return folder


main: Callable[..., int] = entry(
    "regraft-retrain",
    retrain,
    {
        "weights": "--model_dir FOLDER",
        "resolution": "--image_size PIXELS",
        "learning_rate": "--learning_rate",
        "checkpoint_path": "--checkpoint_path",
        "format": "a file with another suffix",
    },
)


if __name__ == "__main__":
    sys.exit(main())
