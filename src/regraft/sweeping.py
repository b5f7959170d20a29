"""Many trainings on the same photos, and the best of them: which head, rate, depth, backbone.

In: photos, and values to try. Out: a `Sweep`: a folder of runs, a table, the best chosen on val.
Why: one classifier costs a second once the features are there, so that nobody needs to guess.
Surprise: test is measured once, of the best alone; a trial's own run says nothing of test.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

from regraft import _console, heads
from regraft._documents import MEBIBYTE, Fields, read_json
from regraft._files import as_path, atomic_file, digest_json, write_json
from regraft._places import Product, claimed, locked, require_free
from regraft._values import options_of
from regraft.classifier import Classifier, sides_of
from regraft.config import OF_ONE_HEAD, FinetuneConfig, SweepConfig, TrainConfig
from regraft.dataset import Dataset
from regraft.errors import ConfigError, DataError, RegraftError, RunError
from regraft.evaluation import evaluate
from regraft.finetuning import finetune
from regraft.keras_backend import trainable_keras
from regraft.run_folder import LAYOUT, is_run, is_unfinished, read_run, read_split, write_measured
from regraft.sources import SIDES, spec_of
from regraft.training import (
    Clock,
    Prepared,
    give_hint,
    learn,
    prepare,
    report_problems,
    require_two_classes,
    whole_spec,
)
from regraft.trials import AXES, Options, Trial, line_of, tell_tensorboard, write_table

_BEST = "best"
_SMALL = MEBIBYTE
_FINE = (10 ** (-2 / 3), 10 ** (-1 / 3), 10 ** (1 / 3), 10 ** (2 / 3))
"""Rates around the best power of ten."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What was tried, the best first, and the best itself, measured on test."""

    folder: Path
    trials: tuple[Trial, ...]
    best: Classifier
    command: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        trials = [asdict(trial) for trial in self.trials]
        test, val = (self.best.metrics[side] for side in ("test", "val"))
        best = {"run": str(self.best.path), "name": self.trials[0].name, "val": val, "test": test}
        return {
            "out": str(self.folder),
            "trials": trials,
            "best": best,
            "command": self.command,
            "seconds": self.seconds,
        }


def sweep(
    photos: str | os.PathLike[str],
    out: str | os.PathLike[str],
    config: SweepConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    train: TrainConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    tune: FinetuneConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
) -> Sweep:
    """Train a classifier for every combination of values, and choose the best on val.

    What an earlier sweep in the same folder finished, on the same photos, is not done again.

    Args:
        photos: what `train` takes.
        out: the folder; each trial is a run folder in it, and ``best`` a copy of the best one.
        config: what to try.
        train: what all have in common.
        tune: what all that are fine-tuned have in common.

    Raises:
        ConfigError: a value cannot be tried, or Optuna is asked for and not installed.
        DataError: the photos cannot make a classifier, or leave no val to choose on.
        RunError: all trials failed, or there is something else at ``out``.
    """
    start, photos, folder = perf_counter(), spec_of(photos), as_path(out, "out")
    config, train, tune = (
        options_of(SweepConfig, config),
        options_of(TrainConfig, train),
        options_of(FinetuneConfig, tune),
    )
    _require_possible(config, tune)
    with locked(folder, _SWEEP):
        _require_free(folder)
        return _swept(_Bench(folder, whole_spec(photos), train, tune), config, start)


def _swept(bench: _Bench, config: SweepConfig, start: float) -> Sweep:
    """Make all trials, measure the best one, write the tables."""
    for trial in bench.search(config) if config.trials else bench.grid(config):
        _console.say(line_of(trial))
    trials = sorted(bench.done.values(), key=lambda trial: trial.score, reverse=True)
    if trials[0].error:
        raise RunError(f"all {len(trials)} trials failed, the first one since {trials[0].error}")
    best = bench.measured(trials[0])
    found = Sweep(bench.folder, tuple(trials), best, bench.command(trials[0]), round(perf_counter() - start, 3))
    write_table(bench.folder / "sweep.csv", trials)
    with atomic_file(bench.folder / "sweep.json") as path:
        write_json(path, found.to_dict())
    return found


def _is_sweep(folder: Path) -> bool:
    """Whether trials may be added to what is there: a folder that is no run itself."""
    return folder.is_dir() and not is_run(folder) and not is_unfinished(folder)


_SWEEP = Product("a folder of trials", _is_sweep, overwrite="")
_TRIAL = Product("a trial", lambda folder: is_run(folder) or is_unfinished(folder), overwrite="")


def _require_free(folder: Path) -> None:
    require_free(folder, _SWEEP)
    require_free(folder / _BEST, _TRIAL)


def _require_possible(config: SweepConfig, tune: FinetuneConfig) -> None:
    """Tell of what cannot be before the photos are read."""
    if config.trials and find_spec("optuna") is None:
        raise ConfigError("--trials needs Optuna; type pip install 'regraft[sweep]'")
    for head in config.values("head"):
        heads.registry.load(head or "logistic")
    depths = [replace(tune, thaw=depth) for depth in config.values("thaw") if depth not in ("", "0")]
    if depths:
        trainable_keras(tune.backend)


@dataclass
class _Bench:
    """Where trials are made: what they share, and those that are done, by their name."""

    folder: Path
    photos: str
    train: TrainConfig
    tune: FinetuneConfig
    done: dict[str, Trial] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._dataset = Dataset.open(self.photos, self.train.label_from, self.train.group_from)
        give_hint(self._dataset)
        require_two_classes(self._dataset)
        self._prepared: dict[TrainConfig, Prepared] = {}

    def grid(self, config: SweepConfig) -> Iterator[Trial]:
        """Every combination; of a range of rates the powers of ten, then finer ones around the best of them."""
        axes = {name: config.values(name) for name in AXES}
        if ".." in config.learning_rate:
            axes["learning_rate"] = _powers_of_ten(*config.rates)
        combinations = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
        yield from self._all(combinations)
        if ".." in config.learning_rate:
            rated = [trial for trial in self.done.values() if trial.options.get("learning_rate")]
            if rated:
                best = max(rated, key=lambda trial: trial.score)
                rates = [float(best.options["learning_rate"]) * factor for factor in _FINE]
                fine = [r for r in rates if config.rates[0] <= r <= config.rates[1]]
                yield from self._all([{**best.options, "learning_rate": f"{r:.2g}"} for r in fine])

    def _all(self, combinations: Sequence[Options]) -> Iterator[Trial]:
        """Each that differs from the others where it matters, the frozen ones first."""
        wanted = {self._name(options): options for options in map(_meant, combinations)}
        for name, options in sorted(wanted.items(), key=lambda item: item[1]["thaw"] != "0"):
            if name not in self.done:
                yield self.run(options)

    def search(self, config: SweepConfig) -> Iterator[Trial]:
        """As many trials as asked for, drawn by Optuna's tree-structured Parzen estimator."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
        for _ in range(config.trials or 0):
            drawn = study.ask()
            options = {}
            for name in AXES:
                if name == "learning_rate" and ".." in config.learning_rate:
                    options[name] = f"{drawn.suggest_float(name, *config.rates, log=True):.2g}"
                else:
                    options[name] = drawn.suggest_categorical(name, config.values(name))
            known = set(self.done)
            trial = self.run(_meant(options))
            accuracy, log_loss = trial.score
            study.tell(drawn, accuracy + 1e-3 * log_loss)  # one number; a thousandth orders those that are alike
            if trial.name not in known:
                yield trial

    def run(self, options: Options) -> Trial:
        """Make one, unless it is there. What goes wrong with it is told in it."""
        name = self._name(options)
        folder, start = self.folder / name, perf_counter()
        if name not in self.done:
            self.done[name] = self._finished(folder, options) or self._made(folder, options, start)
        return self.done[name]

    def _finished(self, folder: Path, options: Options) -> Trial | None:
        try:
            fields = Fields(read_json(folder / LAYOUT.trial, _SMALL), folder)
            accuracy, log_loss = fields.number("accuracy", 0, 1), fields.number("log_loss", 0)
            known = Trial(fields.text("name"), options, accuracy, log_loss, fields.number("seconds"))
            prepared = self._prepare(options)
            same = read_run(folder).manifest.data == prepared.dataset.digest and _same_sides(folder, prepared)
            return known if same else None
        except (OSError, RegraftError):
            return None

    def _made(self, folder: Path, options: Options, start: float) -> Trial:
        try:
            classifier = self._frozen(folder, options) if options["thaw"] == "0" else self._tuned(folder, options)
        except DataError:
            raise  # it would be the same with all that follow
        except RegraftError as error:
            return Trial(folder.name, options, None, None, round(perf_counter() - start, 3), str(error))
        val = classifier.metrics["val"]
        seconds = round(perf_counter() - start, 3)
        tell_tensorboard(folder, options, val)
        record = {"name": folder.name, "accuracy": val["accuracy"], "log_loss": val["log_loss"], "seconds": seconds}
        with atomic_file(folder / LAYOUT.trial) as path:  # last: it says that the trial is done
            write_json(path, record)
        return Trial(options=options, **record)

    def _frozen(self, folder: Path, options: Options) -> Classifier:
        prepared = self._prepare(options)
        config = replace(prepared.config, **_head_options(self.train, options))
        with claimed(folder, _TRIAL) as place:
            classifier = learn(prepared, config, place.fresh, Clock(), as_trial=True)
        return replace(classifier, path=place.path)

    def _tuned(self, folder: Path, options: Options) -> Classifier:
        base = self.run(_meant({**options, "thaw": "0", "head": "logistic", "learning_rate": ""}))
        if base.error:
            raise RunError(base.error)
        found = finetune(self.folder / base.name, folder, self._tuning(options), existing="overwrite", as_trial=True)
        import keras

        keras.backend.clear_session()  # or each trial's network would stay in memory
        return found

    def _tuning(self, options: Options) -> FinetuneConfig:
        rate = options["learning_rate"]
        rates: dict[str, Any] = {"learning_rate": float(rate), "head_learning_rate": float(rate)} if rate else {}
        return replace(self.tune, thaw=options["thaw"], **rates)

    def _prepare(self, options: Options) -> Prepared:
        """Photos with their features: once for all trials that see them alike."""
        resolution = int(options["resolution"]) if options["resolution"] else self.train.resolution
        seen: dict[str, Any] = {
            "backbone": options["backbone"],
            "resolution": resolution,
            "stages": options["stages"] or self.train.stages,
        }
        config = replace(self.train, **seen, **_head_options(self.train, {**options, "head": "logistic"}))
        if config not in self._prepared:
            prepared = prepare(self._dataset, config, Clock(), self.photos)
            if not prepared.sides.val:
                raise DataError("there is no val photo to choose on; give val a share of the photos, or more groups")
            if not self._prepared:
                report_problems(prepared.dataset.problems)
            self._prepared[config] = prepared
        return self._prepared[config]

    def _name(self, options: Options) -> str:
        """Tells people what is in it, and by a digest differs with every option that decides the result."""
        shown = {k: v for k, v in options.items() if v and v != "0" and (k, v) != ("head", "logistic")}
        text = ",".join(f"{k}={v}" for k, v in shown.items() if k != "backbone" or v != SweepConfig().backbone)
        digest = digest_json([options, asdict(self.train), asdict(self.tune) if options["thaw"] != "0" else None])
        return re.sub(r'[\\/:*?"<>|\s]+', "-", f"{text or 'default'}-{digest[:6]}")

    def measured(self, trial: Trial) -> Classifier:
        """The best trial's run, copied to ``best`` and measured on test."""
        prepared = self._prepare(trial.options)
        classifier = Classifier.load(self.folder / trial.name)
        test_side = [prepared.dataset.records[i] for i in sides_of(classifier, prepared.dataset).test]
        records = tuple(sorted(test_side, key=lambda record: (record.identity, record.label)))
        if records:
            test, _ = evaluate(classifier, replace(prepared.dataset, records=records))
        with claimed(self.folder / _BEST, _TRIAL) as place:
            shutil.copytree(self.folder / trial.name, place.fresh, ignore=_of_a_trial, dirs_exist_ok=True)
            run = read_run(place.fresh)
            write_measured(place.fresh, run.manifest, {**run.metrics, **({"test": test.to_dict()} if records else {})})
        return Classifier.load(place.path)

    def command(self, trial: Trial) -> str:
        """What makes the same classifier again."""
        options = trial.options
        frozen = replace(self._prepare(options).config, **_head_options(self.train, options))
        line = f"regraft train {shlex.quote(self.photos)} --out run{_flags(frozen, TrainConfig())}"
        if options["thaw"] == "0":
            return line
        return f"{line} && regraft finetune run{_flags(self._tuning(options), FinetuneConfig())}"


def _same_sides(folder: Path, prepared: Prepared) -> bool:
    """Whether a trial had each photo on the side it has now: where groups changed, or an older regraft split, not."""
    known, records = read_split(folder), prepared.dataset.records
    return all(
        sorted(getattr(known, side)) == sorted(records[i].identity for i in getattr(prepared.sides, side))
        for side in SIDES
    )


def _of_a_trial(_: str, names: list[str]) -> list[str]:
    """What a trial's folder has, and the best one's copy need not: the curves, and what makes it a trial."""
    return [name for name in names if name in (LAYOUT.trial, LAYOUT.logs) or name.startswith("events.")]


def _meant(options: Options) -> dict[str, str]:
    """The same without what does not matter: a rate where nothing steps, a head where blocks are thawed."""
    thawed = options["thaw"] not in ("", "0")
    head = "logistic" if thawed else options["head"] or "logistic"
    rate = options["learning_rate"] if thawed or head == "sgd" else ""
    return {**options, "head": head, "thaw": options["thaw"] or "0", "learning_rate": rate}


def _head_options(train: TrainConfig, options: Options) -> dict[str, Any]:
    """The head of a frozen trial, with the options that are its own; those of other heads as they are by default."""
    head, default = options["head"], TrainConfig()
    own = {name: getattr(train if of == head else default, name) for name, of in OF_ONE_HEAD.items()}
    rate = {"learning_rate": float(options["learning_rate"])} if head == "sgd" and options["learning_rate"] else {}
    return {"head": head, **own, **rate}


def _flags(config: Any, default: Any) -> str:
    """Those that differ from the default, as one types them."""
    changed = {k: v for k, v in asdict(config).items() if v != getattr(default, k)}
    return "".join(
        f" --{name.replace('_', '-')}" + ("" if value is True else f" {shlex.quote(str(value))}")
        for name, value in changed.items()
    )


def _powers_of_ten(low: float, high: float) -> tuple[str, ...]:
    """From ``low`` on; ``high`` too where it is one of them."""
    count = math.floor(math.log10(high / low) + 1e-9) + 1
    return tuple(f"{low * 10**i:.2g}" for i in range(count))
