"""How many labels does it take to reach an accuracy, chosen by `regraft next` and chosen by chance?

The test photos are every third photo by digest, for all draws; files of the same bytes are not in the pool. Each draw
begins with the same photos, drawn by chance, for both ways (or, with --cold, `next` begins with the photos that it
names without a run). Then batches are labelled: by chance, or as `most_uncertain` chooses them, from the probabilities
of the head and the calibration that `train` would fit on the labels so far. The number of labels at which the target is
reached is interpolated between the batches. Also: the accuracy from the photos that `next` names without a run, beside
chance.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from _common import report
from numpy.typing import NDArray

from regraft.config.training import TrainConfig
from regraft.exploring.active_learning import most_typical, most_uncertain
from regraft.features.features import Features
from regraft.features.neighbours import last_stage
from regraft.heads.base import head_of
from regraft.photos.dataset import Dataset
from regraft.photos.splitting import Split
from regraft.training.cross_validation import hold_out
from regraft.training.folding import fold_photos
from regraft.training.preparation import Clock, Prepared, prepare

CONFIG = TrainConfig(folds=5)
Indices = NDArray[np.int64]


class Bench:
    """Photos with their features, of which some are test photos for all draws."""

    def __init__(self, photos: str) -> None:
        dataset = Dataset.open(Path(photos).resolve())
        dataset = replace(dataset, records=tuple(replace(record, split=None) for record in dataset.records))
        self.whole: Prepared = prepare(dataset, CONFIG, Clock(), photos)
        assert self.whole.fold is not None
        features = self.whole.features
        order = np.argsort(np.array(features.digests))
        self.test: Indices = np.sort(order[::3])
        rest = np.setdiff1d(order, self.test)
        seen = {features.digests[i] for i in self.test}
        self.pool: Indices = np.array([i for i in rest if features.digests[i] not in seen])
        self.rows = last_stage(features.x, features.stages)

    def accuracy(self, chosen: Indices) -> float:
        """The share of the test photos that the head answers rightly after training on the photos ``chosen``."""
        train = self._features(chosen)
        if len(np.unique(train.y)) < 2:
            return float((self.whole.features.y[self.test] == train.y[0]).mean())
        head, test = head_of(CONFIG).fit(train, train.select([])), self._features(self.test)
        return float((head.logits(test.x).argmax(axis=1) == test.y).mean())

    def more(self, chosen: Indices, batch: int) -> Indices:
        """The next photos to label, as `regraft next` chooses them with a run trained on the photos ``chosen``."""
        rest, train = np.setdiff1d(self.pool, chosen), self._features(chosen)
        head = head_of(CONFIG).fit(train, train.select([]))
        records = tuple(self.whole.dataset.records[i] for i in chosen)
        part = replace(self.whole.dataset, records=records)
        sides = Split(tuple(range(len(chosen))), (), ())
        fold = fold_photos(part, CONFIG.folds or 5, "")
        folds = hold_out(replace(self.whole, dataset=part, features=train, fold=fold, sides=sides), CONFIG)
        x = self.whole.features.x[rest]
        answers = folds.calibration.answers(x, head.logits(x))
        return rest[most_uncertain(answers.probabilities, lambda some: self.rows[rest[some]], batch)]

    def _features(self, indices: Indices) -> Features:
        return self.whole.features.select(indices.tolist())


def labels_needed(bench: Bench, first: Indices, seed: int, options: argparse.Namespace, by_chance: bool) -> float:
    """The number of labels at which the target is reached; NaN if ``--most`` labels do not reach it."""
    order = np.random.default_rng(seed).permutation(bench.pool)
    chosen, before = first, (0, 0.0)
    while len(chosen) <= options.most:
        accuracy = bench.accuracy(chosen)
        if accuracy >= options.target:
            share = (options.target - before[1]) / (accuracy - before[1]) if before[0] else 1.0
            return before[0] + share * (len(chosen) - before[0])
        before = (len(chosen), accuracy)
        rest = order[~np.isin(order, chosen)]
        chosen = np.concatenate([chosen, rest[: options.batch] if by_chance else bench.more(chosen, options.batch)])
    return float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--target", type=float, default=0.9)
    parser.add_argument("--start", type=int, default=50, help="labels at the beginning")
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--most", type=int, default=700, help="labels at the end, if the target is not reached")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--cold", action="store_true", help="begin `next` with what it names without a run")
    parser.add_argument("--first", default="10,20,50", help="numbers of labels without a run")
    options = parser.parse_args()
    bench = Bench(options.photos)
    rows = [one_draw(bench, seed, options) for seed in range(options.draws)]
    report(
        photos=len(bench.whole.features),
        test=len(bench.test),
        target=options.target,
        start=options.start,
        batch=options.batch,
        needed={name: spread([row[name] for row in rows]) for name in rows[0]},
        draws=rows,
        without_a_run={count: first_labels(bench, int(count), options.draws) for count in options.first.split(",")},
    )


def one_draw(bench: Bench, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """The labels that both ways need from the same beginning, and their ratio."""
    first = np.random.default_rng(seed).permutation(bench.pool)[: options.start]
    cold = bench.pool[most_typical(bench.rows[bench.pool], options.start)] if options.cold else first
    chance = labels_needed(bench, first, seed, options, by_chance=True)
    chosen = labels_needed(bench, cold, seed, options, by_chance=False)
    return {"chance": round(chance, 1), "next": round(chosen, 1), "ratio": round(chosen / chance, 3)}


def first_labels(bench: Bench, count: int, draws: int) -> dict[str, Any]:
    """The accuracy from ``count`` photos that `next` names without a run, and from photos drawn by chance."""
    chosen = bench.pool[most_typical(bench.rows[bench.pool], count)]
    by_chance = [bench.accuracy(np.random.default_rng(i).permutation(bench.pool)[:count]) for i in range(draws)]
    classes = len(np.unique(bench.whole.features.y[chosen]))
    return {"next": round(bench.accuracy(chosen), 3), "classes": classes, "chance": spread(by_chance)}


def spread(values: list[float]) -> dict[str, float]:
    deviation = stdev(values) if len(values) > 1 else 0.0
    return {
        "mean": round(mean(values), 3),
        "deviation": round(deviation, 3),
        "least": min(values),
        "most": max(values),
    }


if __name__ == "__main__":
    main()
