"""Do probabilities mean what they say, and are photos of other things told apart? Five folds, pooled.

Calibration error (15 bins) and log loss of the pooled test photos before and after scaling; and of the strangers, how
many are answered with none of these, by folder, beside the share of test photos that are so by mistake.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from _common import regraft, report, write_fold
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from regraft import Classifier
from regraft.classifiers.evaluation import Evaluation, evaluate, measure
from regraft.classifiers.prediction import rejections
from regraft.classifiers.predictor import Answers
from regraft.heads.base import softmax
from regraft.photos.dataset import Dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("strangers", nargs="*", help="photos of none of the classes")
    options = parser.parse_args()
    records = Dataset.open(Path(options.photos).resolve()).records
    labels = np.array([record.label for record in records])
    strangers = [spec if ":" in spec else str(Path(spec).resolve()) for spec in options.strangers]
    logits: list[NDArray[np.float32]] = []
    y, known, temperatures = [], [], []
    rejected: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, (rest, test) in enumerate(StratifiedKFold(5, shuffle=True, random_state=0).split(labels, labels)):
            write_fold(records, rest, test, number, folder / "photos.csv")
            regraft("train", "photos.csv", "--out", "run", "--overwrite", cache=folder / "cache", cwd=folder)
            classifier = Classifier.load(folder / "run")
            dataset = Dataset.open(folder / "photos.csv")
            side = Dataset(tuple(r for r in dataset.records if r.split == "test"), dataset.classes)
            found, _ = evaluate(classifier, side)
            known.append(round(found.rejected or 0.0, 3))
            temperatures.append(round(classifier.temperature, 3))
            logits.append(np.log(classifier.predict_proba(side.records)) * np.float32(classifier.temperature))
            y += [classifier.classes.index(r.label) for r in side.records]
            for spec in strangers:
                for group in rejections(classifier, spec):
                    rejected.setdefault(f"{Path(spec).name}: {group.label}", []).append(round(group.rejected, 3))
    scaled = [rows / np.float32(t) for rows, t in zip(logits, temperatures, strict=True)]
    before, after = (pooled(rows, np.array(y), classifier.classes) for rows in (logits, scaled))
    report(
        accuracy=after.accuracy,
        calibration_error={"before": before.calibration_error, "after": after.calibration_error},
        log_loss={"before": before.log_loss, "after": after.log_loss},
        temperatures=temperatures,
        known_rejected=known,
        mean_known_rejected=round(float(np.mean(known)), 3),
        mean_rejected={key: round(float(np.mean(shares)), 3) for key, shares in rejected.items()},
        rejected=rejected,
    )


def pooled(logits: list[NDArray[np.float32]], y: NDArray[np.int64], classes: tuple[str, ...]) -> Evaluation:
    rows = np.concatenate(logits)
    answers = Answers(softmax(rows), np.full(len(y), np.nan, np.float32))
    return measure(answers, y, classes, [Path()] * len(y))


if __name__ == "__main__":
    main()
