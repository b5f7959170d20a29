"""The backbone of a run, as the manifest records it: with what it is loaded again, and by what it is recognised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from regraft.backbones.base import Backbone, load_backbone
from regraft.backbones.side_by_side import beside, parts_of
from regraft.errors import RunError, explain
from regraft.foundation.documents import Fields
from regraft.photos.images import Transform

TUNED = "backbone.safetensors"
"""The name of the file with fine-tuned weights in a run folder."""

_OPTIONS = ("stages", "weights", "pixels", "symmetry", "beside")


@dataclass(frozen=True, slots=True)
class BackboneRecord:
    """The backbone of a run.

    Attributes:
        name: the full name, ``source:name``.
        fingerprint: the fingerprint of the backbone on which the run was trained.
        num_features: D, the number of features over all stages.
        stages: the names of the layers that make the features.
        licence: the SPDX expression of the licence of the weights.
        options: ``stages``, ``weights``, ``pixels``, ``symmetry`` and ``beside``; also ``tuned`` if weights were
            fine-tuned.
        transform: the transform of a photo to the backbone's input.
        parts: the backbones whose features stand side by side; empty for a backbone of its own.
    """

    name: str
    fingerprint: str
    num_features: int
    stages: tuple[str, ...]
    licence: str
    options: Mapping[str, str]
    transform: Transform
    parts: tuple[BackboneRecord, ...] = ()

    @classmethod
    def of(cls, backbone: Backbone) -> Self:
        """Return the record of a backbone."""
        options = {key: getattr(backbone.options, key) for key in _OPTIONS}
        parts = parts_of(backbone)
        return cls(
            backbone.name,
            backbone.fingerprint,
            backbone.num_features,
            backbone.stages,
            backbone.licence,
            {**options, "tuned": TUNED} if backbone.options.tuned else options,
            backbone.transform,
            tuple(map(cls.of, parts)) if len(parts) > 1 else (),
        )

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        """Return the record in a manifest, with its parts. Raises DamagedError."""
        found = cls._one(fields)
        if not fields.has("parts"):
            return found
        parts = tuple(cls._one(part) for part in fields.each("parts"))
        if len(parts) < 2 or sum(part.num_features for part in parts) != found.num_features:
            raise fields.wrong("parts", "several backbones with the features of the whole")
        return replace(found, parts=parts)

    @classmethod
    def _one(cls, fields: Fields) -> Self:
        """Return the record in a manifest without its parts. Raises DamagedError."""
        options = fields.fields("options") if fields.has("options") else Fields({}, "")
        if unknown := set(options.values) - {*_OPTIONS, "tuned"}:
            raise fields.wrong("options", f"options among {', '.join(_OPTIONS)}, tuned, not {min(unknown)!r}")
        known = {name: options.text(name) for name in options.values}
        if known.get("tuned") not in (None, "", TUNED):  # a run must not name files outside its folder
            raise options.wrong("tuned", TUNED)
        return cls(
            fields.text("name", "the name of a backbone", len),
            fields.text("fingerprint", "a fingerprint", len),
            fields.whole("num_features", 1, 2**20),
            fields.texts("stages"),
            fields.text("licence"),
            known,
            Transform.from_fields(fields.fields("transform")),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON values; ``parts`` only where there are any."""
        values = asdict(self)
        parts = values.pop("parts")
        return {**values, "parts": [part.to_dict() for part in self.parts]} if parts else values

    @property
    def sizes(self) -> str:
        """The photo size in pixels, as text; of several backbones all sizes, with a plus between them."""
        return "+".join(dict.fromkeys(str(part.transform.size) for part in self.parts or (self,)))

    def load(self, folder: Path, made_by: str) -> Backbone:
        """Return the backbone, as it is installed here.

        Args:
            folder: the run folder.
            made_by: the version of regraft that wrote the run.

        Raises:
            RunError: the installed backbone is not the one on which the run was trained.
            BackboneError: the backbone is not installed.
        """
        return beside([part._load_one(folder, made_by) for part in self.parts or (self,)])

    def _load_one(self, folder: Path, made_by: str) -> Backbone:
        """Return the backbone of a record without parts; see `load`."""
        options = dict(self.options)
        if options.get("tuned"):
            options["tuned"] = str((folder / TUNED).resolve())
        try:
            backbone = load_backbone(self.name, self.transform.size, **options)
        except OSError as error:  # the name of a backbone may be the path of a file, which may be gone
            raise RunError(f"{folder}: its backbone cannot be read: {explain(error)}") from error
        if backbone.fingerprint != self.fingerprint:
            damaged = f"its {TUNED} is damaged, or " if options.get("tuned") else ""
            raise RunError(
                f"{folder}: {damaged}it was trained on another version of {self.name} than is installed; "
                f"type: pip install regraft=={made_by}, or train it again"
            )
        return backbone
