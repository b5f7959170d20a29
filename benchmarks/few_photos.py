"""How good is the default head with few photos, and is its interval true? Draws of so many photos a class.

Each draw trains on N photos of each class and measures on all others: accuracy of the default head, of scikit-learn's
logistic regression on the same features (standardised, C cross-validated), and of the nearest class mean; calibration
error (debiased, bins of equal mass), the share of known photos that are answered with none of these, and whether the
interval of the five folds holds the accuracy on all others. Copies (1 % of the flowers) are not kept apart, which
helps all methods alike. With --flipped, so large a share of the training labels is wrong, and all else is right.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _common import report
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from regraft.classifiers.calibration import is_novel
from regraft.config.training import TrainConfig
from regraft.features.features import Features
from regraft.heads.base import head_of
from regraft.photos.dataset import Dataset
from regraft.photos.splitting import Split
from regraft.training.cross_validation import hold_out
from regraft.training.folding import fold_photos
from regraft.training.preparation import Clock, Prepared, prepare

CONFIG = TrainConfig(folds=5)
BINS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--per-class", default="1,2,5,10,20")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--flipped", type=float, default=0.0)
    parser.add_argument("--alone", action="store_true", help="without the other methods, which take longer")
    options = parser.parse_args()
    dataset = Dataset.open(Path(options.photos).resolve())
    dataset = replace(dataset, records=tuple(replace(record, split=None) for record in dataset.records))
    whole = prepare(dataset, CONFIG, Clock(), options.photos)
    result: dict[str, Any] = {}
    for count in map(int, options.per_class.split(",")):
        rows = [one_draw(whole, count, seed, options.alone, options.flipped) for seed in range(options.draws)]
        result[f"{count} a class"] = {name: summary([row[name] for row in rows]) for name in rows[0]}
        if not options.alone:
            for name in ("logistic", "nearest mean"):
                differences = [row["regraft"] - row[name] for row in rows]
                result[f"{count} a class"][f"regraft - {name}"] = with_interval(differences)
    report(photos=len(dataset.records), draws=options.draws, flipped=options.flipped, **result)


def drawn(features: Features, count: int, seed: int) -> NDArray[np.int64]:
    """Return the indices of ``count`` photos of each class."""
    y, dice = features.y, np.random.default_rng(seed)
    return np.sort(np.concatenate([dice.permutation(np.flatnonzero(y == c))[:count] for c in np.unique(y)]))


def with_wrong_labels(features: Features, share: float, seed: int) -> Features:
    """Return the features with a share of the labels replaced by those of other classes."""
    dice, classes = np.random.default_rng(seed), len(features.classes)
    wrong = dice.random(len(features)) < share
    others = (features.y + 1 + dice.integers(0, classes - 1, len(features))) % classes
    return replace(features, y=np.where(wrong, others, features.y))


def one_draw(whole: Prepared, count: int, seed: int, alone: bool, flipped: float) -> dict[str, float]:
    """Train on ``count`` photos of each class, and measure on all others."""
    chosen = drawn(whole.features, count, seed)
    train = with_wrong_labels(whole.features.select(chosen.tolist()), flipped, seed)
    test = whole.features.select(np.delete(np.arange(len(whole.features)), chosen).tolist())
    logits = head_of(CONFIG).fit(train, train.select([])).logits(test.x)
    found = {"regraft": right(logits, test.y)}
    if count > 1 and not flipped:
        records = tuple(whole.dataset.records[i] for i in chosen)
        part = replace(whole.dataset, records=records)
        fold = fold_photos(part, CONFIG.folds or 5, str(seed))
        sides = Split(tuple(range(len(chosen))), (), ())
        folds = hold_out(replace(whole, dataset=part, features=train, fold=fold, sides=sides), CONFIG)
        low, high = folds.evaluation.interval or (0.0, 1.0)
        answers = folds.calibration.answers(test.x, logits)
        found["calibration error"] = debiased_error(answers.probabilities, test.y)
        found["known refused"] = float(is_novel(answers.novelty, folds.calibration.threshold).mean())
        found["half width"], found["covered"] = (high - low) / 2, float(low <= found["regraft"] <= high)
        found["folds"] = folds.evaluation.accuracy or 0.0
    if not alone:
        found["logistic"], found["nearest mean"] = logistic(train, test), nearest_mean(train, test)
    return found


def right(logits: NDArray[Any], y: NDArray[np.int64]) -> float:
    return float((logits.argmax(axis=1) == y).mean())


def logistic(train: Features, test: Features) -> float:
    """scikit-learn's logistic regression, its C chosen by five folds of the training photos."""
    model: Any = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    fewest = int(np.bincount(train.y).min())
    if fewest > 1:
        grid = {"logisticregression__C": [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0]}
        model = GridSearchCV(model, grid, cv=StratifiedKFold(min(5, fewest)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(train.x, train.y)
    return float((model.predict(test.x) == test.y).mean())


def nearest_mean(train: Features, test: Features) -> float:
    means = np.stack([train.x[train.y == c].mean(axis=0) for c in np.unique(train.y)])
    return right(2 * test.x @ means.T - (means**2).sum(axis=1), test.y)


def debiased_error(p: NDArray[np.float32], y: NDArray[np.int64]) -> float:
    """Calibration error over bins of equal mass, without what chance alone would give (A. Kumar et al., 2019)."""
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == y
    error = 0.0
    for part in np.array_split(np.argsort(confidence, kind="stable"), BINS):
        gap = float(confidence[part].mean() - correct[part].mean())
        chance = float((confidence[part] * (1 - confidence[part])).mean()) / len(part)
        error += len(part) / len(y) * max(0.0, gap**2 - chance) ** 0.5
    return error


def summary(values: list[float]) -> float:
    return round(float(np.mean(values)), 4)


def with_interval(differences: list[float]) -> dict[str, float]:
    """The mean of paired differences, with the ends of its 95 % bootstrap interval over draws."""
    values, dice = np.array(differences), np.random.default_rng(0)
    means = values[dice.integers(0, len(values), (10_000, len(values)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {"mean": summary(differences), "low": round(float(low), 4), "high": round(float(high), 4)}


if __name__ == "__main__":
    main()
