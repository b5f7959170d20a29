"""``regraft-retrain``: the flags of TensorFlow Hub's and TensorFlow-for-Poets' ``retrain.py``.

Photos are read by content and split by it, features are cached, distorted ones too, and the head takes the steps it is
told to. Nothing is deleted that regraft did not write.
"""

from __future__ import annotations

import datetime
import math
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from regraft import _console
from regraft._arguments import UsageError
from regraft._files import write_text
from regraft._places import Product, claimed
from regraft._tensorboard import EventFile
from regraft.classifier import Classifier
from regraft.compat._flags import Flag, parse_flags
from regraft.compat._main import entry
from regraft.compat._names import INCEPTION, backbone_of_architecture, backbone_of_module, pixels_of, weights_in
from regraft.compat._outputs import require_writable, write_labels, write_output
from regraft.compat._photos import prepared_photos, training_features
from regraft.config import TrainConfig
from regraft.distortion import Distortion
from regraft.heads import Step
from regraft.heads.sgd import GradientDescent
from regraft.run_folder import is_run, read_manifest
from regraft.training import Clock, Prepared, conclude

FLAGS = (
    Flag("image_dir", "", "folder of class folders, or any other source of photos"),
    Flag(
        "output_graph",
        "/tmp/output_graph.pb",
        "the export: .pb, .tflite, .onnx, .xml, .keras, or a SavedModel's folder",
    ),
    Flag("intermediate_output_graphs_dir", "/tmp/intermediate_graph/", "folder for exports made on the way"),
    Flag("intermediate_store_frequency", 0, "export after each so many steps; 0 for never"),
    Flag("output_labels", "/tmp/output_labels.txt", "file for the labels, one a line"),
    Flag(
        "summaries_dir",
        "/tmp/retrain_logs",
        "folder for TensorBoard",
        "only what regraft wrote there before is replaced; retrain.py deleted the whole folder",
    ),
    Flag("how_many_training_steps", 4000, "steps of gradient descent"),
    Flag("learning_rate", 0.01, "length of a step, on standardised features"),
    Flag("testing_percentage", 10, "share of the photos for test, in %"),
    Flag("validation_percentage", 10, "share of the photos for validation, in %"),
    Flag("eval_step_interval", 10, "print accuracies after each so many steps"),
    Flag("train_batch_size", 100, "photos a step"),
    Flag("test_batch_size", -1, "nothing", "all test photos are always measured"),
    Flag("validation_batch_size", 100, "nothing", "all validation photos are always measured"),
    Flag("print_misclassified_test_images", False, "list the test photos that were wrong"),
    Flag(
        "bottleneck_dir",
        "/tmp/bottleneck",
        "nothing",
        "features are cached by content (`regraft info cache`), not there",
    ),
    Flag("final_tensor_name", "final_result", "another name of the probabilities in a .pb"),
    Flag("flip_left_right", False, "mirror half of the training views"),
    Flag("random_crop", 0, "cut off up to this margin, in %"),
    Flag("random_scale", 0, "enlarge by up to this, in %"),
    Flag("random_brightness", 0, "lighten or darken by up to this, in %"),
    Flag("tfhub_module", INCEPTION, "address of a module whose network Keras has, or the folder of one"),
    Flag("saved_model_dir", "", "folder for a SavedModel"),
    Flag("logging_verbosity", "INFO", "DEBUG, INFO, WARN, ERROR or FATAL: from WARN on only the end is printed"),
    Flag("checkpoint_path", "/tmp/_retrain_checkpoint", "the run folder", "it becomes a run folder of regraft"),
    Flag("model_dir", "/tmp/imagenet", "where Keras' file of weights may lie; else Keras fetches it to ~/.keras"),
    Flag("architecture", "", "inception_v3, mobilenet_0.50_224, or any backbone of regraft; wins over --tfhub_module"),
    Flag("image_size", 0, "pixels; by default the network's own"),
)
"""Those of both programs, with their defaults; the size of photos they had in the architecture's name alone."""

_MARK = "written-by-regraft.txt"


def retrain(tokens: Sequence[str]) -> int:
    """Train, export, tell. Raises RegraftError."""
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
                _console.warn(f"the folder of {label} has less than 20 images, which may cause issues")
        head, stored = _fitted(prepared, options)
        classifier = conclude(prepared, prepared.config, head, place.fresh, clock)
    classifier = replace(classifier, path=place.path)
    _tell(classifier, options)
    _write(classifier, prepared, stored, options)
    return 0


def _is_ours(folder: Path) -> bool:
    """Whether it is a run that this command may replace: one whose head took steps, as `regraft train`'s does not."""
    return is_run(folder) and read_manifest(folder).head == "sgd"


_CHECKPOINT = Product("a run of regraft-retrain", _is_ours, option="--checkpoint_path", overwrite="")


def _config(options: Namespace) -> TrainConfig:
    if not options.image_dir:
        raise UsageError("must set flag --image_dir")
    if options.logging_verbosity not in ("DEBUG", "INFO", "WARN", "ERROR", "FATAL"):
        raise UsageError(
            f"unknown logging verbosity {options.logging_verbosity!r}; there is DEBUG, INFO, WARN, ERROR, FATAL"
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
    )


def _fitted(prepared: Prepared, options: Namespace) -> tuple[GradientDescent, dict[int, GradientDescent]]:
    """The head after all steps, and copies of it on the way."""
    frequency = max(0, options.intermediate_store_frequency)
    interval = max(1, options.eval_step_interval)
    head = GradientDescent(
        options.learning_rate,
        options.how_many_training_steps,
        max(0, options.train_batch_size),
        math.gcd(interval, frequency) if frequency else interval,
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
    """TensorBoard's runs ``train`` and ``validation``; those that an earlier command wrote are replaced."""
    if (folder / _MARK).is_file():
        for name in ("train", "validation"):
            for file in (folder / name).glob("events.out.tfevents.*"):
                file.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / _MARK, "regraft-retrain replaces the event files in train/ and validation/.\n")
    return EventFile(folder / "train"), EventFile(folder / "validation")


def _print_step(step: Step, n: int) -> None:
    now = datetime.datetime.now()
    lines = [f"Train accuracy = {step.train_accuracy:.1%}", f"Cross entropy = {step.train_loss:.6f}"]
    if n:
        lines.append(f"Validation accuracy = {step.val_accuracy:.1%} (N={n})")
    for line in lines:
        sys.stdout.write(f"{now}: Step {step.number}: {line}\n")


def _tell(classifier: Classifier, options: Namespace) -> None:
    test = classifier.metrics["test"]
    if test["n"]:
        sys.stdout.write(f"Final test accuracy = {test['accuracy']:.1%} (N={test['n']})\n")
    if options.print_misclassified_test_images:
        sys.stdout.write("=== MISCLASSIFIED TEST IMAGES ===\n")
        for mistake in test["mistakes"]:
            sys.stdout.write(f"{_console.printable(mistake['path']):>70}  {_console.printable(mistake['predicted'])}\n")


def _write(classifier: Classifier, prepared: Prepared, stored: dict[int, GradientDescent], options: Namespace) -> None:
    """The labels, the exports on the way, the export at the end."""
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
    _console.say(f"run: {classifier.path}")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


main = entry(
    "regraft-retrain",
    retrain,
    {
        "type --weights FILE": "put it into --model_dir",
        "--resolution": "--image_size",
        "--learning-rate": "--learning_rate",
    },
)


if __name__ == "__main__":
    sys.exit(main())
