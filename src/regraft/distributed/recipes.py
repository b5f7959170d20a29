"""The recipe of an engine: what a node needs to make the engine that the driver has.

In: an engine of this machine. Out: a record of plain values, and on a node an engine with the same fingerprint.
Why: an engine holds a compiled network and locks, which cannot travel.
Surprise: the precision in the recipe is the one that the driver found, never "auto": two nodes that each chose the
fastest one would mix features that differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from regraft.backbones.base import load_backbone
from regraft.engines.base import Engine, EngineOptions, registry
from regraft.errors import BackboneError, option

_TYPED = {"f32": "fp32", "bf16": "bf16"}
"""The precision of an engine, and the option that asks for it."""


@dataclass(frozen=True, slots=True)
class EngineRecipe:
    """What an engine is made of.

    Attributes:
        engine: the name of the engine in the registry.
        backbone: the full name of the backbone, ``source:name``.
        options: the fields of the backbone's `BackboneOptions`.
        precision: ``fp32`` or ``bf16``.
        fingerprint: the fingerprint of the driver's engine, which the engine of a node must have too.
    """

    engine: str
    backbone: str
    options: Mapping[str, Any]
    precision: str
    fingerprint: str

    @classmethod
    def of(cls, engine: Engine) -> Self:
        """Return the recipe of an engine. Raises BackboneError if the nodes could not make it."""
        if engine.precision not in _TYPED:
            raise BackboneError(f"{engine.precision} is computed on one machine; leave {option('ray')} out")
        name = next((name for name in registry.lookup_order() if registry.load(name) is type(engine)), None)
        if name is None:
            raise BackboneError(f"{type(engine).__name__} is no engine that a node knows by name")
        backbone = engine.backbone
        return cls(name, backbone.name, asdict(backbone.options), _TYPED[engine.precision], engine.fingerprint)

    def make(self) -> Engine:
        """Make the engine on this machine, with the fingerprint of the driver's.

        Raises:
            RegraftError: the engine or the backbone is not installed here, or would compute other features.
        """
        backbone = load_backbone(self.backbone, **self.options)
        kind = registry.load(self.engine)
        if refusal := kind.refusal(backbone):
            raise BackboneError(refusal)
        engine = kind.of(backbone, EngineOptions(self.precision))
        if engine.fingerprint != self.fingerprint:
            raise BackboneError(
                f"it would compute other features of {self.backbone} in {self.precision} than this machine does "
                f"(another processor or another version); type {option('precision', 'fp32')}, or "
                "install the same regraft"
            )
        return engine
