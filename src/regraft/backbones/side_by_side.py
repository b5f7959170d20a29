"""Several backbones as one: their features stand side by side, in the order in which the backbones are named."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from regraft.backbones.base import Backbone, BackboneOptions
from regraft.foundation.files import digest_json
from regraft.photos.images import Transform

PLUS = "+"
"""What separates the names of backbones, and their photo sizes."""


def names_in(spec: str) -> tuple[str, ...]:
    """Return the names of the backbones in a spec such as ``efficientnet_lite0+efficientnet_lite2``.

    A plus in the path of a network on disk separates nothing.
    """
    if Path(spec.removeprefix("file:")).exists():
        return (spec,)
    return tuple(spec.split(PLUS))


class SideBySide:
    """Several backbones as one `Backbone`.

    Each of them has its own transform, and its own place in the feature cache, so that a photo whose features one of
    them has already computed is not computed by that one again.

    Args:
        parts: the backbones, at least two.

    Attributes:
        parts: the backbones.
    """

    options: BackboneOptions = BackboneOptions()
    fixed_size = True
    has_keras_model = False
    top1 = None

    def __init__(self, parts: Sequence[Backbone]) -> None:
        self.parts: tuple[Backbone, ...] = tuple(parts)
        self.name: str = PLUS.join(part.name for part in parts)
        self.parameters: float = sum(part.parameters for part in parts)

    @property
    def transform(self) -> Transform:
        """The transform of the first backbone; each of `parts` has its own."""
        return self.parts[0].transform

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the layers that make the features, of one backbone after the other."""
        return tuple(stage for part in self.parts for stage in part.stages)

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of features of each stage, in the order of `stages`."""
        return tuple(width for part in self.parts for width in part.widths)

    @property
    def num_features(self) -> int:
        """D, the number of features of a photo over all backbones."""
        return sum(part.num_features for part in self.parts)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the fingerprints of all backbones."""
        return digest_json([part.fingerprint for part in self.parts])

    @property
    def licence(self) -> str:
        """The SPDX expression of the licences of all backbones."""
        return " AND ".join(dict.fromkeys(part.licence for part in self.parts))

    @property
    def at_hand(self) -> bool:
        """Whether the weights of all backbones are on this machine."""
        return all(part.at_hand for part in self.parts)

    def require_weights(self) -> None:
        """Raise BackboneError if the weights of a backbone are not on this machine."""
        for part in self.parts:
            part.require_weights()

    def keras_model(self) -> None:
        """Return None: each of `parts` has a network of its own."""


def parts_of(backbone: Backbone) -> tuple[Backbone, ...]:
    """Return the backbones that a backbone is made of: usually itself alone."""
    return backbone.parts if isinstance(backbone, SideBySide) else (backbone,)


def stage_widths(backbone: Backbone) -> tuple[tuple[int, ...], ...]:
    """Return the number of features of each stage, for each of the backbones that a backbone is made of."""
    return tuple(part.widths for part in parts_of(backbone))


def beside(parts: Sequence[Backbone]) -> Backbone:
    """Return one or several backbones as one."""
    return SideBySide(parts) if len(parts) > 1 else parts[0]


def has_one_geometry(backbone: Backbone) -> bool:
    """Return whether all parts of a backbone take the same pixels: the same size, crop and resampling."""
    shapes = [(part.transform.size, part.transform.crop, part.transform.resample) for part in parts_of(backbone)]
    return all(one == other for one, other in pairwise(shapes))
