"""Which backbone: the one asked for, or the most accurate that these photos have time for.

In: the options and the photos' records. Out: a backbone at its size.
Why: nobody knows how fast forty networks are on their machine.
Surprise: trying one out is no waste: the features of the photos it is tried on are cached like all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

from regraft import _console
from regraft.accelerator import load_engine
from regraft.backbones import Backbone, list_backbones, load_backbone
from regraft.config import FeatureConfig, seconds_of
from regraft.dataset import ImageRecord
from regraft.errors import BackboneError, ConfigError
from regraft.features import FeatureCache, extract

AUTO = "auto"
_WARM, _SAMPLE = 8, 48


def require_backbone(config: FeatureConfig) -> None:
    """Tell of an unknown backbone before the photos are read. Raises BackboneError or ConfigError."""
    if config.backbone == AUTO:
        if config.weights or config.stages or config.pixels:
            raise ConfigError("--backbone auto chooses by itself; leave --weights, --stages and --pixels out")
    else:
        _sized(config.backbone, config).require_weights()


def choose_backbone(config: FeatureConfig, records: Sequence[ImageRecord]) -> Backbone:
    """The backbone at the size that the effort sets, said aloud with the reason. Raises BackboneError."""
    if config.backbone == AUTO:
        return _most_accurate(config, records)
    native = _native(config.backbone, config)
    size, why = config.photo_size(native.transform.size, native.fixed_size)
    backbone = load_backbone(config.backbone, size, **_options(config))
    _console.note(f"backbone {backbone.name} at {backbone.transform.size} px: {why}")
    return backbone


def _options(config: FeatureConfig) -> dict[str, str]:
    return {"stages": config.stages, "weights": config.weights, "pixels": config.pixels}


def _native(name: str, config: FeatureConfig) -> Backbone:
    return load_backbone(name, config.resolution, **_options(config))


def _sized(name: str, config: FeatureConfig) -> Backbone:
    native = _native(name, config)
    size, _ = config.photo_size(native.transform.size, native.fixed_size)
    return load_backbone(name, size, **_options(config))


class _Trial(NamedTuple):
    backbone: Backbone
    seconds: float  # for the photos that are not in the cache

    def __str__(self) -> str:
        top1 = f"{self.backbone.top1} % of ImageNet"
        return f"{self.backbone.name} at {self.backbone.transform.size} px ({top1}): about {self.seconds:.0f} s"


def _most_accurate(config: FeatureConfig, records: Sequence[ImageRecord]) -> Backbone:
    """Try them from the most accurate down, and take the first that is fast enough; else the fastest."""
    slower: list[_Trial] = []
    for backbone in _candidates(config):
        trial = _tried(backbone, config, records)
        if trial.seconds <= seconds_of(config.budget):
            _console.note(f"backbone {trial}: the most accurate of those on this machine within {config.budget}")
            return backbone
        _console.note(f"{trial}: too long")
        slower.append(trial)
    if not slower:
        raise BackboneError("no backbone's weights are on this machine; `regraft info backbones` says how to get them")
    best = min(slower, key=lambda trial: trial.seconds)
    _console.warn(f"no backbone is done within {config.budget}; the fastest is taken: {best}")
    return best.backbone


def _candidates(config: FeatureConfig) -> list[Backbone]:
    """Those that need no download and say how accurate they are, the best first."""
    described = [_sized(name, config) for name in list_backbones()]
    ready = [backbone for backbone in described if backbone.at_hand and backbone.top1 is not None]
    return sorted(ready, key=lambda backbone: -(backbone.top1 or 0))


def _tried(backbone: Backbone, config: FeatureConfig, records: Sequence[ImageRecord]) -> _Trial:
    """How long the photos that are not in the cache would take, from a sample of them."""
    engine = load_engine(backbone, config)
    known = FeatureCache(engine.fingerprint, backbone.num_features).known(record.digest for record in records)
    todo = list({record.digest: record for record in records if record.digest not in known}.values())
    extract(todo[:_WARM], engine)  # which also builds and compiles the graph
    sample, start = todo[_WARM : _WARM + _SAMPLE], perf_counter()
    extract(sample, engine)
    seconds = perf_counter() - start
    return _Trial(backbone, seconds / len(sample) * (len(todo) - _WARM) if sample else 0.0)
