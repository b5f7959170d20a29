"""Every option once: name, type, default, meaning. The command line and the run folder are made from these.

In: keyword arguments, a TOML file, or both. Out: frozen records, checked.
Why: an option that exists in two places has two defaults one day.
Surprise: an option's help text is the string under its field; there is no other.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeVar, get_type_hints

from regraft import _documents
from regraft._documents import mended, of_type
from regraft.errors import ConfigError

T = TypeVar("T")
Effort = Literal["quick", "balanced", "thorough"]
LARGEST = 2**15
"""The most bytes of a file of options; what reads TOML takes minutes for long names of a stranger."""


class _Effort(NamedTuple):
    scale: float
    why: str


_EFFORTS: dict[Effort, _Effort] = {
    "quick": _Effort(1.0, "the size the backbone was trained at"),
    "balanced": _Effort(
        9 / 7,
        "a little above the size it was trained at: 0.7 points better on our flowers, for half as much work again",
    ),
    "thorough": _Effort(11 / 7, "well above the size it was trained at, for 2.5 times the work"),
}


def seconds_of(text: str) -> float:
    """A time like 45s, 10m or 2h in seconds. Raises ConfigError where it is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if found is None or not float(found[1]):
        raise ConfigError(f"budget {text!r} is no time; type, for example, 60s, 10m or 2h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


@dataclass(frozen=True, slots=True)
class FeatureConfig:
    """What decides which features a photo has."""

    backbone: str = "efficientnet_lite0"
    """Pretrained network, as SOURCE:NAME or NAME; `regraft info backbones` lists them. auto: see --budget."""

    effort: Effort = "balanced"
    """How much work a photo is worth: sets the size at which the backbone sees it."""

    resolution: int | None = None
    """That size in pixels; wins over --effort, and over a size in the backbone's name."""

    stages: str = ""
    """Layers whose averages make the features: names with commas, or last; by default one of each resolution."""

    weights: str = ""
    """imagenet, none (random), or a file of the backbone's weights; by default what the backbone comes with."""

    pixels: str = ""
    """For a network on disk, the range in which it wants pixels: 0..255, 0..1, -1..1, imagenet or caffe."""

    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    """What features are computed in; auto is bf16 where the processor multiplies it. int8 is calibrated on the photos
    by `train`, which then tells what it costs."""

    engine: Literal["auto", "openvino", "jax"] = "auto"
    """What computes features: OpenVINO on the CPU, or JAX; auto is JAX where it finds a GPU or TPU."""

    budget: str = "60s"
    """With --backbone auto, how long extracting the features may take: 45s, 10m or 2h."""

    def __post_init__(self) -> None:
        """Check what no type can say."""
        if self.engine not in ("auto", "openvino", "jax"):
            raise ConfigError(f"unknown engine {self.engine!r}; there is auto, openvino, jax")
        seconds_of(self.budget)
        if self.precision not in ("auto", "fp32", "bf16", "int8"):
            raise ConfigError(f"unknown precision {self.precision!r}; there is auto, fp32, bf16, int8")
        if self.precision == "int8" and self.engine == "jax":
            raise ConfigError("int8 runs on OpenVINO; leave --engine jax out")
        if self.resolution is not None and not 32 <= self.resolution <= 1024:
            raise ConfigError(f"resolution {self.resolution} is not between 32 and 1024 pixels")
        if self.effort not in _EFFORTS:
            raise ConfigError(f"unknown effort {self.effort!r}; there is {', '.join(_EFFORTS)}")

    def photo_size(self, native: int, fixed: bool) -> tuple[int, str]:
        """Side in pixels for a backbone trained at ``native``, ``fixed`` where no other will do, and the reason."""
        if self.resolution is not None:
            return self.resolution, "as asked"
        if fixed:
            return native, "the size in its name"
        scale, why = _EFFORTS[self.effort]
        return (native if scale == 1.0 else round(native * scale / 32) * 32), f"effort {self.effort}, {why}"


OF_ONE_HEAD = {"class_weight": "logistic", "learning_rate": "sgd", "steps": "sgd", "batch_size": "sgd"}
"""Options that one head alone has."""


@dataclass(frozen=True, slots=True)
class TrainConfig(FeatureConfig):
    """What decides which classifier comes out of the same photos."""

    head: str = "logistic"
    """What learns the classes from the features: logistic, prototype, knn, or sgd (steps of gradient descent)."""

    class_weight: Literal["none", "balanced"] = "none"
    """balanced: every class counts alike, however few its photos (logistic only)."""

    learning_rate: float = 0.01
    """Length of a step (sgd only)."""

    steps: int = 4000
    """How many steps (sgd only)."""

    batch_size: int = 100
    """Photos a step, drawn at random; 0 for all (sgd only)."""

    val: float = 0.1
    """Share of the photos that choose between heads."""

    test: float = 0.1
    """Share of the photos that measure the result, and do nothing else."""

    salt: str = ""
    """Any text; another text draws another split."""

    reject: float = 0.05
    """Share of val photos that may be answered with none of these; 0 and that is never the answer."""

    def __post_init__(self) -> None:
        """Check what no type can say."""
        FeatureConfig.__post_init__(self)  # with slots, super() would not find its class
        if not (min(self.val, self.test) >= 0 and self.val + self.test < 1):  # so that NaN is refused too
            raise ConfigError(f"val {self.val} and test {self.test} must be at least 0 and leave something to train on")
        if not 0 <= self.reject < 0.5:
            raise ConfigError(f"reject {self.reject:g} is not between 0 and 0.5")
        if self.class_weight not in ("none", "balanced"):
            raise ConfigError(f"unknown class weight {self.class_weight!r}; there is none, balanced")
        for name, head in OF_ONE_HEAD.items():
            value = getattr(self, name)
            if value != type(self).__dataclass_fields__[name].default and self.head != head:
                raise ConfigError(f"{name} {value!r} works with the head {head!r}, not {self.head!r}")
        if not 0 < self.learning_rate < math.inf or self.steps < 1 or self.batch_size < 0:
            raise ConfigError(
                f"learning_rate {self.learning_rate:g}, steps {self.steps} and batch_size {self.batch_size}: wanted "
                "more than 0, at least 1, and at least 0"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From TOML or JSON values. Raises ConfigError for a name that is no option."""
        return _from_dict(cls, values)

    def to_toml(self) -> str:
        """As the text of a TOML file that `read_toml` reads back."""
        import tomli_w

        return tomli_w.dumps({name: value for name, value in asdict(self).items() if value is not None})


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """What decides which weights fine-tuning finds."""

    thaw: str = "auto"
    """How many of the last blocks to train, or stage:NAME, or all (from pixels); auto is the last resolution's."""

    budget: str = ""
    """How long the training may take: 90s, 10m or 2h. With --thaw auto, as many blocks are thawed as that allows."""

    epochs: int = 5
    """How often every photo is trained on."""

    learning_rate: float = 3e-4
    """The highest rate of the thawed blocks."""

    head_learning_rate: float = 3e-4
    """The highest rate of the head, which starts from what the frozen run learned."""

    batch_size: int = 32
    """Photos a step; halved by itself where memory is short."""

    batch_norm: Literal["frozen", "trained", "statistics"] = "frozen"
    """What batch normalisation of the thawed blocks does: nothing, learn, or only follow the photos' statistics."""

    optimizer: Literal["adamw", "sgd", "rmsprop"] = "adamw"
    """AdamW, SGD with Nesterov's momentum of 0.9, or RMSprop as Inception was trained (momentum 0.9, epsilon 1)."""

    schedule: Literal["cosine", "step"] = "cosine"
    """How the rate falls: half a cosine, or by ten at each third."""

    warmup: float = 0.1
    """Share of all steps in which the rate rises to its highest."""

    weight_decay: float = 0.05
    """Decoupled weight decay."""

    label_smoothing: float = 0.0
    """Share of certainty given to all classes alike."""

    dropout: float = 0.0
    """Share of features that each step leaves out."""

    mixup: float = 0.2
    """Alpha of mixup, the blending of pairs of photos; 0 for none."""

    views: int = 1
    """In how many sizes each photo is seen, each a third larger; every one takes its time to compute, and its disk."""

    cutmix: float = 0.0
    """Alpha of CutMix, pieces of one photo in another; 0 for none. Beside mixup, each has half of the steps."""

    augment: Literal["crop", "colour", "randaugment"] = "crop"
    """How photos vary: cropped and mirrored; with --thaw all also in colour, or in two of RandAugment's ways."""

    class_weight: Literal["none", "balanced"] = "none"
    """balanced: every class counts alike, however few its photos."""

    patience: int = 3
    """Stop when val loss has not improved for so many epochs."""

    seed: int = 0
    """Another number, another order and other crops."""

    histograms: bool = False
    """Also write how the weights that learn are spread to TensorBoard, each epoch."""

    disk: float = 4.0
    """Gigabytes that cached activations may take."""

    backend: Literal["auto", "tensorflow", "jax"] = "auto"
    """What trains; auto is TensorFlow where it is installed, else JAX."""

    def __post_init__(self) -> None:
        """Check what no type can say."""
        for name, choices in _FINETUNE_CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"unknown {name} {getattr(self, name)!r}; there is {', '.join(choices)}")
        if not re.fullmatch(r"auto|all|[1-9]\d*|stage:.+", self.thaw):
            raise ConfigError(f"thaw {self.thaw!r} is neither a number of blocks nor stage:NAME, all or auto")
        if self.budget and seconds_of(self.budget) and self.thaw != "auto":
            raise ConfigError("--budget chooses how many blocks to thaw; leave --thaw out")
        for name, (possible, wanted) in _FINETUNE_RANGES.items():
            if not possible(getattr(self, name)):
                raise ConfigError(f"{name} is {getattr(self, name)}; wanted {wanted}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From TOML or JSON values. Raises ConfigError for a name that is no option."""
        return _from_dict(cls, values)


_Range = tuple[Callable[[float], bool], str]
_SHARE: _Range = (lambda value: 0 <= value < 1, "0 to 1")
_COUNT: _Range = (lambda value: value >= 1, "at least 1")
_NOT_LESS: _Range = (lambda value: 0 <= value < math.inf, "at least 0")
_MORE: _Range = (lambda value: 0 < value < math.inf, "more than 0")
_FINETUNE_RANGES = {
    **dict.fromkeys(("epochs", "batch_size", "patience", "views"), _COUNT),
    **dict.fromkeys(("warmup", "label_smoothing", "dropout"), _SHARE),
    **dict.fromkeys(("mixup", "cutmix", "weight_decay", "head_learning_rate"), _NOT_LESS),
    **dict.fromkeys(("learning_rate", "disk"), _MORE),
}
_FINETUNE_CHOICES = {
    "batch_norm": ("frozen", "trained", "statistics"),
    "optimizer": ("adamw", "sgd", "rmsprop"),
    "schedule": ("cosine", "step"),
    "augment": ("crop", "colour", "randaugment"),
    "class_weight": ("none", "balanced"),
    "backend": ("auto", "tensorflow", "jax"),
}


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """What a sweep tries: several values with commas, every one with every other."""

    backbone: str = "efficientnet_lite0"
    """Backbones."""

    resolution: str = ""
    """Sides in pixels; by default the one that suits the backbone."""

    stages: str = ""
    """Sets of stages, with semicolons between sets: last;stage4,head. By default one of each resolution."""

    head: str = "logistic"
    """Heads on frozen features."""

    thaw: str = "0"
    """How much to fine-tune: 0 for nothing, and what `finetune --thaw` takes. Each starts from the logistic head."""

    learning_rate: str = ""
    """Rates of the thawed blocks and of the head sgd, or LOW..HIGH: each power of ten, then finer around the best."""

    trials: int | None = None
    """Try so many, each drawn by what the others taught (Optuna; pip install 'regraft[sweep]'), in place of all."""

    def __post_init__(self) -> None:
        """Check what no type can say."""
        if self.trials is not None and self.trials < 1:
            raise ConfigError(f"trials is {self.trials}; wanted at least 1")
        for name in ("resolution", "learning_rate"):
            for value in re.split(r",|\.\.", getattr(self, name)):
                if value and not re.fullmatch(
                    r"\d*\.?\d+(e-?\d+)?" if name == "learning_rate" else r"\d+", value.strip()
                ):
                    raise ConfigError(f"{name} {value!r} is no number; several stand with commas between them")
        if ".." in self.learning_rate and not 0 < self.rates[0] < self.rates[1]:
            raise ConfigError(f"learning_rate {self.learning_rate!r} is no range; wanted, for example, 1e-4..1e-1")

    def values(self, name: str) -> tuple[str, ...]:
        """What is to be tried of one option; one empty text for its default."""
        found = getattr(self, name).split(";" if name == "stages" else ",")
        return tuple(dict.fromkeys(value.strip() for value in found if value.strip())) or ("",)

    @property
    def rates(self) -> tuple[float, float]:
        """The ends of a range of learning rates."""
        low, _, high = self.learning_rate.partition("..")
        return float(low), float(high)


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """What an export is."""

    format: str = "litert"
    """litert (.tflite), onnx, openvino, saved-model, keras (.keras) or graph-def (.pb)."""

    quantize: str = ""
    """How weights and values are made smaller: with litert fp16, int8-weights or int8, with openvino fp16 or int8."""

    min_agreement: float = 0.98
    """Share of val photos on which a quantised export must give the run's answer; with less nothing is kept."""

    def __post_init__(self) -> None:
        """Check what no type can say."""
        if not 0 <= self.min_agreement <= 1:
            raise ConfigError(f"min_agreement {self.min_agreement:g} is no share; wanted 0 to 1")


@dataclass(frozen=True, slots=True)
class ShardConfig:
    """What shards look like."""

    format: Literal["tfrecord", "webdataset"] = "tfrecord"
    """tfrecord for TensorFlow, in the schema of its Inception pipeline; webdataset for torch and others."""

    shards: int | None = None
    """How many shards each side of the split has; not with --per-shard."""

    per_shard: int | None = None
    """How many photos a shard has: 1024, unless the number of shards is given."""

    workers: int | None = None
    """Threads that read and decode; as many as there are cores."""

    labels: Path | None = None
    """Text file with the class names in index order, one a line; by default they are sorted."""

    background: bool = False
    """Number classes from 1, as TensorFlow's Inception pipeline does; 0 is then called background."""

    def __post_init__(self) -> None:
        """Check what no type can say."""
        if self.shards is not None and self.per_shard is not None:
            raise ConfigError("--shards and --per-shard say the same thing twice; type one of them")
        for name in ("shards", "per_shard", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; wanted at least 1")


def _from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    hints = get_type_hints(cls)
    if not isinstance(values, Mapping):
        raise ConfigError(f"options are {reprlib.repr(values)}; wanted a table of names and values")
    if unknown := [name for name in values if name not in hints]:
        raise ConfigError(f"unknown option {unknown[0]!r}; there is {', '.join(sorted(hints))}")
    with mended(ConfigError):
        return cls(**{name: of_type(name, value, hints[name]) for name, value in values.items()})


def read_toml(path: Path) -> dict[str, Any]:
    """The options of a TOML file. Raises ConfigError where it cannot be read."""
    with mended(ConfigError, "wanted a TOML file of options"):
        return _documents.read_toml(path, LARGEST)
