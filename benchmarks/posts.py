"""The commands of the posts, typed as they stand there, and how long they take.

TensorFlow-for-Poets' walk (`retrain` with its flags, `label_image`), then what it promised afterwards: a second run,
another number of steps, distortions, a .tflite. Then Inception's: shards, steps of training, a measurement. Lite0 is
in place of networks whose weights are a download.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path

from _common import Done, report, run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--architecture", default="efficientnet_lite0")
    parser.add_argument("--inception-steps", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(options.photos, folder / "tf_files" / "flower_photos")
        report(poets=_poets(folder, options.architecture), inception=_inception(folder, options))


def _old(folder: Path, module: str, *flags: str) -> Done:
    return run([sys.executable, "-m", f"regraft.compat.{module}", *flags], folder / "cache", folder)


def _poets(folder: Path, architecture: str) -> dict[str, object]:
    def retrain(*more: str, steps: str = "500", graph: str = "tf_files/retrained_graph.pb") -> dict[str, object]:
        done = _old(
            folder,
            "retrain",
            "--bottleneck_dir=tf_files/bottlenecks",
            f"--how_many_training_steps={steps}",
            "--model_dir=tf_files/models/",
            f"--summaries_dir=tf_files/training_summaries/{architecture}",
            f"--output_graph={graph}",
            "--output_labels=tf_files/retrained_labels.txt",
            f"--architecture={architecture}",
            "--image_dir=tf_files/flower_photos",
            "--checkpoint_path=tf_files/run",
            *more,
        )
        return {"seconds": round(done.seconds, 1), "test": re.findall(r"Final test accuracy = (.*)", done.stdout)[0]}

    def label(graph: str) -> dict[str, object]:
        photo = "tf_files/flower_photos/daisy/21652746_cc379e0eea_m.jpg"
        done = _old(folder, "label_image", f"--graph={graph}", f"--image={photo}")
        return {"seconds": round(done.seconds, 1), "first": re.findall(r"\n(\S.*\(score.*\))", done.stdout)[0]}

    found: dict[str, object] = {"retrain .pb, empty cache": retrain(), "again": retrain()}
    curves = folder / "tf_files" / "training_summaries" / architecture / "validation"
    events = EventAccumulator(str(curves)).Reload()
    found["points in TensorBoard"] = len(events.Scalars("accuracy_1"))
    found["label_image .pb"] = label("tf_files/retrained_graph.pb")
    found["retrain .tflite"] = retrain(graph="tf_files/graph.tflite")
    found["label_image .tflite"] = label("tf_files/graph.tflite")
    found["retrain .xml"] = retrain(graph="tf_files/graph.xml")
    found["4,000 steps, .xml"] = retrain(steps="4000", graph="tf_files/graph.xml")
    distorted = ("--flip_left_right", "--random_scale=10", "--random_brightness=10")
    found["distorted, .xml"] = retrain(*distorted, graph="tf_files/graph.xml")
    found["distorted again, .xml"] = retrain(*distorted, graph="tf_files/graph.xml")
    return found


def _inception(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """A fifth of the photos for validation."""
    for path in sorted((folder / "tf_files" / "flower_photos").iterdir()):
        for number, photo in enumerate(sorted(path.iterdir())):
            target = folder / ("validation" if number % 5 == 0 else "train") / path.name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, target)
    shards = ("--train_directory=train", "--validation_directory=validation", "--output_directory=shards")
    built = _old(folder, "build_image_data", *shards)
    flags = ("--data_dir=shards", "--fine_tune", "--initial_learning_rate=0.001", "--batch_size=24", "--image_size=224")
    steps = (f"--architecture={options.architecture}", f"--max_steps={options.inception_steps}")
    trained = _old(folder, "inception_train", *flags, *steps, "--train_dir=models")
    measured = _old(
        folder, "inception_eval", "--data_dir=shards", "--checkpoint_dir=models", "--eval_dir=eval", "--run_once"
    )
    return {
        "build_image_data": round(built.seconds, 1),
        "inception_train": round(trained.seconds, 1),
        "lines": re.findall(r"step \d+, loss.*", trained.stdout),
        "inception_eval": round(measured.seconds, 1),
        "measured": re.findall(r"precision.*", measured.stdout)[0],
    }


if __name__ == "__main__":
    main()
