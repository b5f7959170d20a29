"""The choice of the backbone: the one that the user named, or the best on the photos that fits the time budget.

In: the options and the records of the photos. Out: a backbone with its photo size.
Why: the user cannot know how fast about forty networks are on this machine, nor which of them suits the photos.
Surprise: trying a backbone wastes nothing. The features of the photos on which it is tried are cached like all others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from regraft.backbones.base import Backbone, list_backbones, load_backbone
from regraft.backbones.side_by_side import PLUS, beside, names_in, parts_of, stage_widths
from regraft.config.features import FeatureConfig, seconds_of
from regraft.engines.base import load_engines, require_engine
from regraft.errors import BackboneError, ConfigError, option
from regraft.features.elsewhere import computed_on
from regraft.features.feature_cache import FeatureCache
from regraft.features.features import Features, extract_all
from regraft.features.probing import Probe, probe
from regraft.foundation import console
from regraft.photos.dataset import ImageRecord

AUTO = "auto"
_WARM_UP_PHOTOS = 8
"""The number of photos that are computed before the timing: the first photo also builds and compiles the network."""

_TIMED_PHOTOS = 48
"""The number of photos on which a backbone is timed."""

_PROBED_PHOTOS = 400
"""The number of photos, evenly from all classes, on which backbones are compared."""


def require_backbone(config: FeatureConfig) -> None:
    """Check the backbone and the engine of ``config`` before any photo is read.

    Raises:
        BackboneError: the backbone or the engine is unknown, or the weights are not on this machine.
        ConfigError: the backbone is ``auto``, and weights, stages or the pixel range are set as well.
    """
    require_engine(config)
    if config.backbone == AUTO:
        if config.weights or config.stages or config.pixels:
            raise ConfigError(
                f"{option('backbone', 'auto')} chooses by itself; leave {option('weights')}, {option('stages')} and "
                f"{option('pixels')} out"
            )
    else:
        _named(config)[0].require_weights()


def choose_backbone(config: FeatureConfig, records: Sequence[ImageRecord]) -> Backbone:
    """Return the backbone at the photo size that the effort sets, and print the choice with its reason.

    Args:
        config: the options. The backbone ``auto`` selects the best one on these photos within the time budget.
        records: the photos whose features are needed. For ``auto`` some of them are computed with each backbone.

    Raises:
        BackboneError: the backbone is unknown or cannot be loaded; for ``auto``, no weights are on this machine.
    """
    if config.backbone == AUTO:
        with computed_on(None):  # it is the speed of this machine that is measured
            return _best(config, records)
    backbone, reasons = _named(config)
    for part, why in zip(parts_of(backbone), reasons, strict=True):
        console.note(f"backbone {part.name} at {part.transform.size} px: {why}")
    return backbone


def _options(config: FeatureConfig) -> dict[str, Any]:
    symmetry = "" if config.symmetry == "none" else config.symmetry
    return {"stages": config.stages, "weights": config.weights, "pixels": config.pixels, "symmetry": symmetry}


def _named(config: FeatureConfig) -> tuple[Backbone, list[str]]:
    """Return the backbone that the user named, and the reason for the photo size of each of its parts.

    Raises:
        BackboneError: a name is unknown.
        ConfigError: the names and the sizes do not fit together, or an option does not work with several backbones.
    """
    names, asked = names_in(config.backbone), config.resolutions
    if len(names) > 1:
        _require_several(names, config)
    if asked:
        names = names if len(names) > 1 else names * len(asked)
        asked = asked if len(asked) > 1 else asked * len(names)
        if len(names) != len(asked):
            raise ConfigError(
                f"there are {len(names)} backbones and {len(asked)} resolutions; wanted one resolution, or one for each"
            )
        pairs = [(name, size, "as asked") for name, size in zip(names, asked, strict=True)]
    else:
        pairs = [(name, size, why) for name in names for size, why in _effort_sizes(name, config)]
    if len(pairs) > 1 and config.precision == "int8":
        raise ConfigError(f"int8 works with one backbone at one size; leave {option('precision', 'int8')} out")
    parts = [load_backbone(name, size, **_options(config)) for name, size, _ in pairs]
    if len({(part.name, part.options) for part in parts}) < len(parts):
        raise ConfigError(f"backbone {config.backbone} has the same features twice; wanted each network once at a size")
    return beside(parts), [why for *_, why in pairs]


def _require_several(names: Sequence[str], config: FeatureConfig) -> None:
    """Raise ConfigError for what several backbones cannot be asked for."""
    if AUTO in names or "" in names:
        raise ConfigError(f"backbone {config.backbone!r}: wanted the names of networks with a plus between them")
    if config.weights not in ("", "imagenet", "none"):
        raise ConfigError(f"{option('weights', config.weights)} are those of one network; name one backbone")


def _effort_sizes(name: str, config: FeatureConfig) -> list[tuple[int, str]]:
    """Return the photo sizes of a backbone that the effort sets, each with the reason."""
    native = load_backbone(name, **_options(config))
    sizes, why = config.photo_sizes(native.transform.size, native.fixed_size)
    return [(size, why) for size in sizes]


class _Tried(NamedTuple):
    """A backbone, and the estimated seconds for the photos whose features are not in the cache."""

    backbone: Backbone
    seconds: float

    def __str__(self) -> str:
        sizes = PLUS.join(str(part.transform.size) for part in parts_of(self.backbone))
        return f"{self.backbone.name} at {sizes} px: about {self.seconds:.0f} s"


def _best(config: FeatureConfig, records: Sequence[ImageRecord]) -> Backbone:
    """Return the backbone that tells the classes of the photos apart best, of those that fit the time budget.

    The backbones are tried from the one with the highest ImageNet accuracy down, until the budget is spent on trying.
    If none fits the budget, the fastest is taken. Raises BackboneError if there is none.
    """
    sample = _evenly([record for record in records if record.split != "test"])
    chosen = {record.digest for record in sample}
    ordered = [*sample, *(record for record in records if record.digest not in chosen)]
    budget, start = seconds_of(config.budget), perf_counter()
    fitting: list[_Tried] = []
    slower: list[_Tried] = []
    for backbone in _candidates(config):
        if fitting and perf_counter() - start > budget:
            console.note(f"{backbone.name} is not tried: {config.budget} were spent on trying others")
            continue
        tried = _timed(backbone, config, ordered)
        (fitting if tried.seconds <= budget else slower).append(tried)
        console.note(f"{tried}{'' if tried.seconds <= budget else ', too long'}")
    if fitting:
        return _best_on(sample, fitting, config)
    if not slower:
        raise BackboneError("no backbone's weights are on this machine; `regraft info backbones` says how to get them")
    fastest = min(slower, key=lambda tried: tried.seconds)
    console.warn(f"no backbone is done within {config.budget}; the fastest is taken: {fastest}")
    return fastest.backbone


def _best_on(sample: Sequence[ImageRecord], fitting: Sequence[_Tried], config: FeatureConfig) -> Backbone:
    """Return the backbone that tells the classes of a sample of photos apart best; the first one if none can."""
    labels = {record.label for record in sample}
    if len(fitting) == 1 or len(labels) < 2:
        console.note(f"backbone {fitting[0]}: {'the only one' if len(fitting) == 1 else 'the first'} of those here")
        return fitting[0].backbone
    found = [(_probed(sample, tried.backbone, config), tried) for tried in fitting]
    for one, tried in found:
        console.note(f"{tried.backbone.name}: {one.accuracy:.1%} of {len(sample)} photos, each answered by all others")
    best = min(found, key=lambda pair: pair[0].error)[1]
    console.note(f"backbone {best}: it tells the classes of these photos apart best")
    return best.backbone


def _probed(sample: Sequence[ImageRecord], backbone: Backbone, config: FeatureConfig) -> Probe:
    """Return how well a backbone tells the classes of a sample of photos apart."""
    extraction = extract_all(sample, load_engines(backbone, config))
    labels = sorted({record.label for record in sample})
    y = np.array([labels.index(record.label) for record in sample], np.int64)
    digests = tuple(record.digest for record in sample)
    features = Features(extraction.x, y, tuple(labels), digests, backbone.name, stage_widths(backbone))
    return probe(features.select(np.flatnonzero(~np.isnan(extraction.x[:, 0])).tolist()))


def _evenly(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Return at most `_PROBED_PHOTOS` photos, evenly from all classes, the same ones in whatever order they come."""
    classes: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in sorted({record.digest: record for record in records}.values(), key=lambda r: r.digest):
        classes[record.label].append(record)
    turns = zip_longest(*(classes[label] for label in sorted(classes)))
    return [record for turn in turns for record in turn if record][:_PROBED_PHOTOS]


def _candidates(config: FeatureConfig) -> list[Backbone]:
    """Return the backbones that need no download and have a published accuracy, from the most accurate one down."""
    described = [(load_backbone(name).top1, _named(replace(config, backbone=name))[0]) for name in list_backbones()]
    ready = [(top1, backbone) for top1, backbone in described if top1 is not None and backbone.at_hand]
    return [backbone for _, backbone in sorted(ready, key=lambda pair: -pair[0])]


def _timed(backbone: Backbone, config: FeatureConfig, records: Sequence[ImageRecord]) -> _Tried:
    """Return the estimated time for the photos that are not in the cache, by computing the first of them."""
    engines = load_engines(backbone, config)
    digests = [record.digest for record in records]
    known = set.intersection(
        *(FeatureCache(engine.fingerprint, engine.backbone.num_features).known(digests) for engine in engines)
    )
    todo = list({record.digest: record for record in records if record.digest not in known}.values())
    extract_all(todo[:_WARM_UP_PHOTOS], engines)  # the first photo also builds and compiles the graph
    timed, start = todo[_WARM_UP_PHOTOS : _WARM_UP_PHOTOS + _TIMED_PHOTOS], perf_counter()
    extract_all(timed, engines)
    seconds = perf_counter() - start
    return _Tried(backbone, seconds / len(timed) * (len(todo) - _WARM_UP_PHOTOS) if timed else 0.0)
