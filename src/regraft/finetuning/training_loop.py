"""The training loop: train a Keras network on batches, on TensorFlow or JAX.

In: a Keras network that is not compiled yet, and `Batches`. Out: its weights of the best epoch, and a history.
Why: learning rate schedule, checkpoints and early stopping are the same for activations and for pixels.
Surprise: the batches of an epoch depend on its number alone, so a killed training resumes exactly at its checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from regraft.classifiers.run_folder import LAYOUT
from regraft.config.finetuning import FinetuneConfig
from regraft.engines.tensorflow import tensorflow_has_gpu, tensorflow_step
from regraft.errors import RunError, TrainingError, option
from regraft.finetuning.begun import existing_option
from regraft.finetuning.pace import Course, Pace
from regraft.foundation import console
from regraft.foundation.documents import (
    MEBIBYTE,
    DamagedError,
    Fields,
    mended,
    read_json,
    read_tensors,
    write_tensors,
)
from regraft.foundation.files import atomic_file, write_json

Inputs = list[NDArray[np.float32]]
"""The inputs of a network for one batch: activations or pixels, and for some networks features."""
Validation = tuple[float, float, float]
"""Loss, top-1 accuracy and top-5 accuracy on val."""

_MAX_HISTORY, _MAX_CHECKPOINT = 64 * MEBIBYTE, 8192 * MEBIBYTE  # larger files are refused as damaged
_WARM_STEPS, _TIMED_STEPS = 2, 5  # the first steps compile the network
_BLENDS = (0.5, 0.75, 1.0)
"""Weights of the trained network in the mean with the initial one, to choose from on val.

Over six splits of the flowers, test accuracy gained 1.4 points with 1, 1.9 with 0.5, and 2.0 with the choice on val.
"""


class Batches(Protocol):
    """The training batches of all epochs."""

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        ...

    def batch(self, epoch: int, number: int) -> tuple[Inputs, NDArray[np.float32]]:
        """Return the inputs and targets (B, C) of batch ``number``, each time the same; a row sums to its weight."""
        ...


@dataclass(frozen=True, slots=True)
class Epoch:
    """The figures of one epoch; those of val are NaN where there is no val.

    Epoch 0 is the state before training: it has figures of val alone, and its figures of train are NaN.

    Attributes:
        number: the number of the epoch; the first trained epoch is 1.
        train_loss, train_accuracy, train_top5: means over the epoch's steps, on augmented photos.
        val_loss, val_accuracy, val_top5: figures on val after the epoch, without augmentation.
        learning_rate: the learning rate of the epoch's last step.
        photos_per_s: train photos divided by the seconds of the training steps; validation does not count.
    """

    number: int
    train_loss: float
    train_accuracy: float
    train_top5: float
    val_loss: float
    val_accuracy: float
    val_top5: float
    learning_rate: float
    photos_per_s: float

    def to_dict(self) -> dict[str, Any]:
        """Return the epoch as JSON values, with None (JSON's null) for NaN."""
        return {key: None if value != value else value for key, value in asdict(self).items()}

    @classmethod
    def from_fields(cls, values: Fields) -> Epoch:
        """Read an epoch that `to_dict` returned. Raises DamagedError where a value is missing or of another type."""
        names = [field.name for field in fields(cls)][1:]
        found = {name: values.number_or_none(name) for name in names}
        return cls(values.whole("number"), **{name: math.nan if v is None else v for name, v in found.items()})

    @classmethod
    def start(cls, val: Validation) -> Epoch:
        """Return epoch 0: the figures on val before training."""
        return cls(0, math.nan, math.nan, math.nan, *val, 0.0, math.nan)


class Trainer:
    """The training of one network.

    Args:
        model: the Keras model; its inputs are those of `Batches`, its output logits (N, C). It is compiled here.
        config: learning rate schedule, optimizer, label smoothing and early stopping.
        folder: the folder for checkpoints; training resumes from the checkpoints in it.
        head: the variables of the head, which are trained with ``config.head_learning_rate``.
        course: a number of steps and a schedule that replace the configured ones.
        budget: the seconds that the training may take; 0 for any number. It gets fewer steps than configured if the
            machine is too slow for all of them.
    """

    def __init__(
        self,
        model: Any,
        config: FinetuneConfig,
        folder: Path,
        head: list[Any],
        course: Course | None = None,
        budget: float = 0.0,
    ) -> None:
        import keras

        self.model: Any = model
        self.config: FinetuneConfig = config
        self.folder: Path = folder
        self.course: Course | None = course
        self.budget: float = budget
        self.history: list[Epoch] = []
        self._begun = model.get_weights()
        factor = config.head_learning_rate / config.learning_rate if config.learning_rate else 1.0
        paths = {v.path for v in head}
        factors = [factor if v.path in paths else 1.0 for v in model.trainable_variables]
        self.optimizer: Any = _optimizer(config, factors)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing)
        five = keras.metrics.TopKCategoricalAccuracy(min(5, model.output_shape[-1]))
        model.compile(self.optimizer, loss, metrics=["accuracy", five], jit_compile="auto")
        self.optimizer.build(model.trainable_variables)
        # On a CPU our own compiled step is used in place of Keras' `train_on_batch`: see `tensorflow_step`.
        on_cpu = keras.backend.backend() == "tensorflow" and not tensorflow_has_gpu()
        self._step = tensorflow_step(model, loss) if on_cpu else self._keras_step

    def fit(
        self,
        batches: Batches,
        validate: Callable[[], Validation],
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> Self:
        """Train to the last epoch, or until val loss has not improved for ``patience`` epochs; then blend.

        The network ends with a mean of its initial weights and its weights of the best epoch; ``blend_`` is the share
        of the best epoch.

        Args:
            batches: the training batches.
            validate: returns loss, top-1 and top-5 accuracy on val.
            on_epoch: called after each epoch, and at the start for each epoch of a resumed training.

        Raises:
            RunError: a checkpoint in the folder is damaged.
            TrainingError: the loss is NaN or infinite.
        """
        self._restore()
        period = self.course.period if self.course else len(batches)
        pace = Pace(self.config, self.course.steps if self.course else period * self.config.epochs, period, self.budget)

        begin = perf_counter()
        if not self.history:
            self.history.append(Epoch.start(validate()))
        validation = perf_counter() - begin
        if on_epoch:
            for known in self.history:
                on_epoch(known)
        while (first := (len(self.history) - 1) * period) < pace.steps and not self._is_over():
            pace.begins(validation)
            start = perf_counter()
            losses, rate = self._trained(batches, range(first, min(first + period, pace.steps)), pace)
            trained = perf_counter()
            figures = validate()
            validation = perf_counter() - trained
            self._finish(losses, figures, rate, trained - start)
            if on_epoch:
                on_epoch(self.history[-1])
        self._read(self._best())
        self.blend_: float = self._blend(validate)
        return self

    def _trained(
        self, batches: Batches, numbers: range, pace: Pace
    ) -> tuple[list[tuple[float, float, float, int]], float]:
        """Take the training steps with these numbers, or fewer if a time budget wants it.

        Returns:
            Loss, top-1, top-5 and number of photos for each step, and the learning rate of the last step.
        """
        losses: list[tuple[float, float, float, int]] = []
        name, rate = self._name(len(self.history)), 0.0
        with console.progress(name, len(numbers)) as advance:
            for number, (inputs, targets) in zip(numbers, _ahead(batches, numbers), strict=True):
                start = perf_counter()
                rate = self.course.rate(number) if self.course else pace.rate(number)
                self.optimizer.learning_rate.assign(rate)
                losses.append((*self._step(inputs, targets), len(targets)))
                self._require_number(losses[-1][0], number)
                mean = np.mean(losses, axis=0)
                advance(label=f"{name}: loss {mean[0]:.3f}, accuracy {mean[1]:.1%}")
                if self.course:
                    self.course.on_step(number, losses[-1][0], rate, perf_counter() - start)
                pace.stepped(number + 1)
                if number + 1 >= pace.steps:
                    break
        return losses, rate

    def _name(self, number: int) -> str:
        """Return what messages call epoch ``number``."""
        return f"epoch {number}" if self.course else f"epoch {number}/{self.config.epochs}"

    def seconds_a_step(self, inputs: Inputs, targets: NDArray[np.float32]) -> float:
        """Return the median seconds of a few training steps, compilation not counted; they change the weights."""
        seconds = []
        for _ in range(_WARM_STEPS + _TIMED_STEPS):
            start = perf_counter()
            self._step(inputs, targets)
            seconds.append(perf_counter() - start)
        return float(np.median(seconds[_WARM_STEPS:]))

    def _keras_step(self, inputs: Inputs, targets: NDArray[np.float32]) -> tuple[float, float, float]:
        self.model.reset_metrics()  # else Keras returns averages over the epoch so far
        loss, accuracy, top5 = self.model.train_on_batch(inputs, targets)
        return float(loss), float(accuracy), float(top5)

    def _finish(self, losses: list[tuple[float, float, float, int]], val: Validation, rate: float, s: float) -> None:
        """Add a trained epoch to the history, save its checkpoint, and print its figures."""
        *train, count = (np.array(column) for column in zip(*losses, strict=True))
        loss, top1, top5 = (float(column.mean()) for column in train)
        done = Epoch(len(self.history), loss, top1, top5, *val, rate, float(count.sum() / s))
        self.history.append(done)
        self._save()
        console.note(
            f"{self._name(done.number)}: loss {done.train_loss:.3f}, val loss {done.val_loss:.3f}, "
            f"val accuracy {done.val_accuracy:.1%}, {done.photos_per_s:.0f} photos/s"
        )

    def _blend(self, validate: Callable[[], Validation]) -> float:
        """Set the weights to the mean of the initial and the best epoch's weights that has the lowest loss on val.

        M. Wortsman et al., Robust fine-tuning of zero-shot models (2022). Without val the first of `_BLENDS` is taken.

        Returns:
            The share of the best epoch's weights in the mean.
        """
        best, losses = self.model.get_weights(), {}

        def take(share: float) -> None:
            pairs = zip(self._begun, best, strict=True)
            self.model.set_weights([w if share == 1 else v + share * (w - v) for v, w in pairs])

        for share in _BLENDS:
            take(share)
            losses[share] = validate()[0]
        chosen = min(losses, key=losses.__getitem__)
        take(chosen)
        why = "the default, as there is no val" if math.isnan(losses[chosen]) else "lowest loss on val"
        console.note(f"blend: {chosen:.0%} trained weights, {1 - chosen:.0%} initial weights: {why}")
        return chosen

    def _scores(self) -> list[float]:
        """Return a score for each trained epoch, lower is better: the val loss; without val, the last epoch is best."""
        return [-e.number if math.isnan(e.val_loss) else e.val_loss for e in self.history[1:]]

    def _best(self) -> int:
        """Return the number of the best epoch."""
        return 1 + int(np.argmin(self._scores()))

    def _is_over(self) -> bool:
        """Return whether early stopping ends the training now."""
        done = self.history[-1].number
        if not done:
            return False
        over = done - self._best() >= self.config.patience
        if over and done < self.config.epochs:
            console.note(f"stopped: val loss has not improved for {self.config.patience} epochs")
        return over

    def _require_number(self, loss: float, step: int) -> None:
        """Raise TrainingError where the loss is NaN or infinite."""
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} in step {step + 1}: it diverged; type a smaller "
                f"{option('learning_rate')} than {self.config.learning_rate:g}"
            )

    def _variables(self) -> dict[str, Any]:
        """Return the variables that a checkpoint holds, of network and optimizer, by numbered names."""
        return {
            **{f"model/{i:04}": v for i, v in enumerate(self.model.variables)},
            **{f"optimizer/{i:04}": v for i, v in enumerate(self.optimizer.variables)},
        }

    def _save(self) -> None:
        """Save the newest epoch, and keep the best. In this order a kill at any moment leaves a valid checkpoint."""
        with atomic_file(self._checkpoint(self.history[-1].number)) as path:
            write_tensors(path, {name: v.numpy() for name, v in self._variables().items()})
        with atomic_file(self.folder / LAYOUT.history) as path:
            write_json(path, [epoch.to_dict() for epoch in self.history])
        kept = {self._checkpoint(number) for number in (self._best(), self.history[-1].number)}
        for path in set(self.folder.glob("epoch-*.safetensors")) - kept:
            path.unlink()

    def _checkpoint(self, number: int) -> Path:
        return self.folder / f"epoch-{number:04}.safetensors"

    def _restore(self) -> None:
        """Resume from the newest checkpoint in the folder, if there is one. Raises RunError where it is damaged."""
        if not (path := self.folder / LAYOUT.history).exists():
            return
        with mended(RunError, f"type {existing_option('overwrite')} to begin anew"):
            known = Fields({"epochs": read_json(path, _MAX_HISTORY)}, f"{path} is damaged").each("epochs")
            self.history = [Epoch.from_fields(epoch) for epoch in known]
            if [epoch.number for epoch in self.history] != list(range(len(known))) or len(known) < 2:
                raise DamagedError(f"{path} is damaged: its epochs are not 0, 1 and so on")
        self._read(self.history[-1].number)
        console.note(f"resuming after epoch {self.history[-1].number}")

    def _read(self, number: int) -> None:
        """Set weights and optimizer to the checkpoint of epoch ``number``. Raises RunError where it is damaged."""
        path = self._checkpoint(number)
        with mended(RunError, f"type {existing_option('overwrite')} to begin anew"):
            arrays = read_tensors(path, _MAX_CHECKPOINT)
            for key, variable in self._variables().items():
                if key not in arrays or arrays[key].size != math.prod(variable.shape):
                    raise DamagedError(f"{path} is damaged: {key} is missing or of another size")
                variable.assign(arrays[key].reshape(variable.shape))


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that TensorFlow, JAX or Python ran out of memory."""
    text = f"{type(error).__name__} {error}".lower().replace("_", "")  # JAX writes RESOURCE_EXHAUSTED
    return isinstance(error, MemoryError) or "resourceexhausted" in text


def _ahead(batches: Batches, steps: range) -> Iterator[tuple[Inputs, NDArray[np.float32]]]:
    """Yield the batches of these steps; a thread prepares the next batch while the network trains on this one."""
    with ThreadPoolExecutor(1) as pool:

        def begin(step: int) -> Future[tuple[Inputs, NDArray[np.float32]]]:
            return pool.submit(batches.batch, *divmod(step, len(batches)))

        waiting = begin(steps[0])
        for step in steps:
            ready = waiting.result()
            if step != steps[-1]:
                waiting = begin(step + 1)
            yield ready


def _optimizer(config: FinetuneConfig, factors: list[float]) -> Any:
    """Return the configured Keras optimizer, with the learning rate of each variable multiplied by its factor."""
    import keras

    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "adamw": (keras.optimizers.AdamW, {}),
        "sgd": (keras.optimizers.SGD, {"momentum": 0.9, "nesterov": True}),
        "rmsprop": (keras.optimizers.RMSprop, {"rho": 0.9, "momentum": 0.9, "epsilon": 1.0}),
    }
    kind, more = kinds[config.optimizer]

    class Discriminative(kind):  # type: ignore[misc, valid-type]
        """An optimizer with a learning rate for each variable; Keras passes all variables the same one."""

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            super().update_step(gradient, variable, learning_rate * factors[self._get_variable_index(variable)])

    return Discriminative(config.learning_rate, weight_decay=config.weight_decay, clipnorm=1.0, **more)
