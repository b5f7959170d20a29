"""Hyperparameter search: train classifiers with many combinations of options on the same photos, and choose the best.

In: photos, and the values to try. Out: a `Sweep`: a folder of runs, a table, and the classifier that is best on val.
Why: once the features are cached, a classifier takes about a second, so trying is cheaper than guessing.
Surprise: the test photos are measured once, with the best classifier; the run of a trial has no figures of test.
"""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from regraft.classifiers.classifier import Classifier, sides_of
from regraft.classifiers.evaluation import evaluate
from regraft.classifiers.run_folder import LAYOUT, is_run, is_unfinished, read_run, read_split, write_measured
from regraft.config.finetuning import FinetuneConfig
from regraft.config.sweeping import SweepConfig
from regraft.config.training import TrainConfig
from regraft.config.values import options_of
from regraft.drawing.html import displayed_by
from regraft.engines.keras_backend import trainable_keras
from regraft.errors import ConfigError, DataError, RegraftError, RunError, option
from regraft.features.elsewhere import cluster_in_use
from regraft.finetuning.finetuning import finetune
from regraft.foundation import console
from regraft.foundation.documents import MEBIBYTE, Fields, read_json
from regraft.foundation.file_names import portable_name
from regraft.foundation.files import as_path, atomic_file, digest_json, write_json
from regraft.foundation.places import Product, claimed, locked, require_free
from regraft.heads import base as head_base
from regraft.photos.sources.base import SIDES, spec_of
from regraft.sweeping.combinations import effective, flags_of, head_options, powers_of_ten
from regraft.sweeping.trials import AXES, Options, Trial, line_of, tell_tensorboard, write_table
from regraft.training.preparation import Clock, Prepared, open_labelled, prepare, report_problems, whole_spec
from regraft.training.training import learn

_BEST = "best"
_LONGEST_NAME = 248  # characters of a trial's name before its digest; file systems take 255
_MAX_TRIAL_FILE = MEBIBYTE  # a larger record of a trial is not read
_FINE_FACTORS = (10 ** (-2 / 3), 10 ** (-1 / 3), 10 ** (1 / 3), 10 ** (2 / 3))
"""Factors by which the best power of ten is multiplied for a second, finer search of the learning rate."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """The result of a sweep.

    Attributes:
        folder: the sweep's folder, with a run folder for each trial.
        trials: all trials, the best first.
        best: the best classifier, measured on test.
        command: the command that trains the best classifier again.
        seconds: the time of the sweep.
    """

    folder: Path
    trials: tuple[Trial, ...]
    best: Classifier
    command: str
    seconds: float

    _repr_html_ = displayed_by("regraft.reporting.displays:sweep_html")

    def to_dict(self) -> dict[str, Any]:
        """Return the sweep as JSON values."""
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

    Trials that an earlier sweep in the same folder finished on the same photos are not run again.

    Args:
        photos: a folder of class folders, or any other spec that `Dataset.open` takes.
        out: the folder of the sweep; each trial is a run folder in it, and ``best`` is a copy of the best one.
        config: the values to try.
        train: the training options that all trials share.
        tune: the fine-tuning options that all fine-tuned trials share.

    Returns:
        The trials, the best first, and the best classifier, measured on test.

    Raises:
        ConfigError: a value cannot be tried, or Optuna is asked for and not installed.
        DataError: the photos cannot make a classifier, or leave no val photos to choose on.
        RunError: all trials failed, or ``out`` is something else than a sweep's folder.
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
    """Run all trials, measure the best one on test, and write ``sweep.csv`` and ``sweep.json``."""
    for trial in bench.search(config) if config.trials else bench.grid(config):
        console.say(line_of(trial))
    trials = sorted(bench.done.values(), key=lambda trial: trial.score, reverse=True)
    if trials[0].error:
        raise RunError(f"all {len(trials)} trials failed; the first one: {trials[0].error}")
    best = bench.measured(trials[0])
    found = Sweep(bench.folder, tuple(trials), best, bench.command(trials[0]), round(perf_counter() - start, 3))
    write_table(bench.folder / "sweep.csv", trials)
    with atomic_file(bench.folder / "sweep.json") as path:
        write_json(path, found.to_dict())
    return found


def _is_sweep(folder: Path) -> bool:
    """Return whether trials may be added to a folder: whether it is not a run itself."""
    return folder.is_dir() and not is_run(folder) and not is_unfinished(folder)


_SWEEP = Product("a folder of trials", _is_sweep, overwrite="")
_TRIAL = Product("a trial", lambda folder: is_run(folder) or is_unfinished(folder), overwrite="")


def _require_free(folder: Path) -> None:
    """Raise RunError where ``folder`` or its ``best`` holds something else than a sweep writes there."""
    require_free(folder, _SWEEP)
    require_free(folder / _BEST, _TRIAL)


def _require_possible(config: SweepConfig, tune: FinetuneConfig) -> None:
    """Raise ConfigError or BackboneError for options that cannot be tried, before the photos are read."""
    if config.trials and find_spec("optuna") is None:
        raise ConfigError(f"{option('trials')} needs Optuna; type pip install 'regraft[sweep]'")
    for head in config.values("head"):
        head_base.registry.load(head or "logistic")
    depths = [replace(tune, thaw=depth) for depth in config.values("thaw") if depth not in ("", "0")]
    if depths:
        trainable_keras(tune.backend)


@dataclass
class _Bench:
    """Runs the trials of a sweep, and holds what they share.

    Attributes:
        folder: the sweep's folder.
        photos: the spec of the photos.
        train: the training options that all trials share.
        tune: the fine-tuning options that all fine-tuned trials share.
        done: the trials that are finished or failed, by name.
    """

    folder: Path
    photos: str
    train: TrainConfig
    tune: FinetuneConfig
    done: dict[str, Trial] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._dataset = open_labelled(self.photos, self.train)
        self._prepared: dict[TrainConfig, Prepared] = {}
        self._sent: dict[str, Callable[[], dict[str, bytes] | None]] = {}  # by the name of a trial, how to wait for it

    def grid(self, config: SweepConfig) -> Iterator[Trial]:
        """Run every combination of values, and yield each trial.

        Of a range of learning rates, the powers of ten are tried first, then finer steps around the best of them.
        """
        axes = {name: config.values(name) for name in AXES}
        if ".." in config.learning_rate:
            axes["learning_rate"] = powers_of_ten(*config.rates)
        combinations = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
        yield from self._all(combinations)
        if ".." in config.learning_rate:
            rated = [trial for trial in self.done.values() if trial.options.get("learning_rate")]
            if rated:
                best = max(rated, key=lambda trial: trial.score)
                rates = [float(best.options["learning_rate"]) * factor for factor in _FINE_FACTORS]
                fine = [r for r in rates if config.rates[0] <= r <= config.rates[1]]
                yield from self._all([{**best.options, "learning_rate": f"{r:.2g}"} for r in fine])

    def _all(self, combinations: Sequence[Options]) -> Iterator[Trial]:
        """Run combinations, each that gives the same classifier once, those without fine-tuning first."""
        wanted = {self._name(options): options for options in map(effective, combinations)}
        self._send({name: options for name, options in wanted.items() if name not in self.done})
        for name, options in sorted(wanted.items(), key=lambda item: item[1]["thaw"] != "0"):
            if name not in self.done:
                yield self.run(options)

    def _send(self, wanted: Mapping[str, Options]) -> None:
        """Let the nodes of a cluster, if there is one, fit the heads of trials that are not finished."""
        if (cluster := cluster_in_use()) is None:
            return
        for name, options in wanted.items():
            if options["thaw"] == "0" and self._finished(self.folder / name, options) is None:
                self._sent[name] = cluster.start(_learned, self._prepare(options), self._config(options))

    def search(self, config: SweepConfig) -> Iterator[Trial]:
        """Run ``config.trials`` trials drawn by Optuna's tree-structured Parzen estimator; yield each new one."""
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
            trial = self.run(effective(options))
            accuracy, log_loss = trial.score
            # Optuna takes one number: a thousandth of the (negative) log loss orders trials of equal accuracy.
            study.tell(drawn, accuracy + 1e-3 * log_loss)
            if trial.name not in known:
                yield trial

    def run(self, options: Options) -> Trial:
        """Run the trial with these options, unless it was run before; an error goes into ``Trial.error``.

        Raises:
            DataError: the photos cannot make a classifier, whatever the options.
        """
        name = self._name(options)
        folder, start = self.folder / name, perf_counter()
        if name not in self.done:
            self.done[name] = self._finished(folder, options) or self._made(folder, options, start)
        return self.done[name]

    def _finished(self, folder: Path, options: Options) -> Trial | None:
        """Return the trial that an earlier sweep finished in ``folder`` on the same photos and split, or None."""
        try:
            fields = Fields(read_json(folder / LAYOUT.trial, _MAX_TRIAL_FILE), folder)
            accuracy, log_loss = fields.number("accuracy", 0, 1), fields.number("log_loss", 0)
            known = Trial(fields.text("name"), options, accuracy, log_loss, fields.number("seconds"))
            prepared = self._prepare(options)
            same = read_run(folder).manifest.data == prepared.dataset.digest and _same_sides(folder, prepared)
            return known if same else None
        except (OSError, RegraftError):
            return None

    def _made(self, folder: Path, options: Options, start: float) -> Trial:
        """Train a trial in ``folder``; ``start`` is the time at which it began."""
        try:
            classifier = self._frozen(folder, options) if options["thaw"] == "0" else self._tuned(folder, options)
        except DataError:
            raise  # all other trials would fail for the same reason
        except RegraftError as error:
            return Trial(folder.name, options, None, None, round(perf_counter() - start, 3), str(error))
        val = classifier.metrics["val"]
        seconds = round(perf_counter() - start, 3)
        tell_tensorboard(folder, options, val)
        record = {"name": folder.name, "accuracy": val["accuracy"], "log_loss": val["log_loss"], "seconds": seconds}
        with atomic_file(folder / LAYOUT.trial) as path:  # written last: it marks the trial as finished
            write_json(path, record)
        return Trial(options=options, **record)

    def _frozen(self, folder: Path, options: Options) -> Classifier:
        """Train a trial on frozen features."""
        files = self._sent.pop(folder.name)() if folder.name in self._sent else None
        with claimed(folder, _TRIAL) as place:
            if files is None:  # there is no cluster, or the node was lost or had an error, which comes again here
                learn(self._prepare(options), self._config(options), place.fresh, Clock(), as_trial=True)
            for name, data in (files or {}).items():
                (place.fresh / name).parent.mkdir(parents=True, exist_ok=True)
                (place.fresh / name).write_bytes(data)
        return Classifier.load(place.path)

    def _config(self, options: Options) -> TrainConfig:
        """Return the training options of a trial."""
        return replace(self._prepare(options).config, **head_options(self.train, options))

    def _tuned(self, folder: Path, options: Options) -> Classifier:
        """Train a fine-tuned trial, which starts from the frozen trial of the same backbone."""
        base = self.run(effective({**options, "thaw": "0", "head": "logistic", "learning_rate": ""}))
        if base.error:
            raise RunError(base.error)
        found = finetune(self.folder / base.name, folder, self._tuning(options), existing="overwrite", as_trial=True)
        import keras

        keras.backend.clear_session()  # else the network of each trial stays in memory
        return found

    def _tuning(self, options: Options) -> FinetuneConfig:
        """Return the fine-tuning options of a trial."""
        rate = options["learning_rate"]
        rates: dict[str, Any] = {"learning_rate": float(rate), "head_learning_rate": float(rate)} if rate else {}
        return replace(self.tune, thaw=options["thaw"], folds=0, **rates)

    def _prepare(self, options: Options) -> Prepared:
        """Return the prepared photos of a trial; they are computed once for all trials with the same features."""
        seen: dict[str, Any] = {
            "backbone": options["backbone"],
            "resolution": options["resolution"] or self.train.resolution,
            "stages": options["stages"] or self.train.stages,
        }
        config = replace(self.train, folds=0, **seen, **head_options(self.train, {**options, "head": "logistic"}))
        if config not in self._prepared:
            prepared = prepare(self._dataset, config, Clock(), self.photos)
            if not prepared.sides.val:
                raise DataError(
                    "there is no val photo to choose on; give val a larger share, or add photos of other groups"
                )
            if not self._prepared:
                report_problems(prepared.dataset.problems)
            self._prepared[config] = prepared
        return self._prepared[config]

    def _name(self, options: Options) -> str:
        """Return a trial's name: the options that were tried, and a digest of all options that affect the result."""
        shown = {k: v for k, v in options.items() if v and v != "0" and (k, v) != ("head", "logistic")}
        text = ",".join(f"{k}={v}" for k, v in shown.items() if k != "backbone" or v != SweepConfig().backbone)
        digest = digest_json([options, asdict(self.train), asdict(self.tune) if options["thaw"] != "0" else None])
        return portable_name(f"{(text or 'default')[:_LONGEST_NAME]}-{digest[:6]}", _LONGEST_NAME + 7)

    def measured(self, trial: Trial) -> Classifier:
        """Copy the run of the best trial to ``best``, measure it on test, and return it."""
        prepared = self._prepare(trial.options)
        classifier = Classifier.load(self.folder / trial.name)
        test_side = [prepared.dataset.records[i] for i in sides_of(classifier, prepared.dataset).test]
        records = tuple(sorted(test_side, key=lambda record: (record.identity, record.label)))
        if records:
            test, _ = evaluate(classifier, replace(prepared.dataset, records=records))
        with claimed(self.folder / _BEST, _TRIAL) as place:
            shutil.copytree(self.folder / trial.name, place.fresh, ignore=_files_of_trial, dirs_exist_ok=True)
            run = read_run(place.fresh)
            write_measured(place.fresh, run.manifest, {**run.metrics, **({"test": test.to_dict()} if records else {})})
        return Classifier.load(place.path)

    def command(self, trial: Trial) -> str:
        """Return the command line that trains the classifier of a trial again."""
        options = trial.options
        frozen = self._config(options)
        line = f"regraft train {shlex.quote(self.photos)} --out run{flags_of(frozen, TrainConfig())}"
        if options["thaw"] == "0":
            return line
        return f"{line} && regraft finetune run{flags_of(self._tuning(options), FinetuneConfig())}"


def _learned(prepared: Prepared, config: TrainConfig) -> dict[str, bytes]:
    """Train a trial, and return the files of its run folder by their names. This is what a node of a cluster does."""
    with TemporaryDirectory(prefix="regraft-") as name:
        folder = Path(name, "run")
        folder.mkdir()
        learn(prepared, config, folder, Clock(), as_trial=True)
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _same_sides(folder: Path, prepared: Prepared) -> bool:
    """Return whether a trial was trained with the present split.

    The split of the same photos differs where their groups changed, or where another version of regraft made it.
    """
    known, records = read_split(folder), prepared.dataset.records
    return all(
        sorted(getattr(known, side)) == sorted(records[i].identity for i in getattr(prepared.sides, side))
        for side in SIDES
    )


def _files_of_trial(_: str, names: list[str]) -> list[str]:
    """Return the files that are not copied to ``best``: TensorBoard's logs, and the record of the trial."""
    return [name for name in names if name in (LAYOUT.trial, LAYOUT.logs) or name.startswith("events.")]
