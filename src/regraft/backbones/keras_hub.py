"""``keras_hub:PRESET``: networks that KerasHub loads: its own presets, ``hf://…``, ``kaggle://…``, a preset's folder.

Of convolutional networks the features are averages of maps, stage by stage; of transformers the class token and the
average of the patches (the two that DINOv2, arXiv:2304.07193, gives to its linear probes); of two towers, as SigLIP
has, what the one for photos gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft import _console
from regraft._cache import read_value, write_value
from regraft._files import cache_folder, digest_file, digest_json
from regraft._processes import call
from regraft.backbones import RANGES, Backbone, BackboneOptions
from regraft.backbones._graphs import Described
from regraft.backbones._stages import DRAWN, draw_weights, pooled, stage_outputs
from regraft.errors import BackboneError
from regraft.images import Transform

if TYPE_CHECKING:
    import keras

_CODE_VERSION = 1  # raise it when the features of the same preset and photo change


class HubSource:
    """``keras_hub:`` and what KerasHub calls a preset."""

    def names(self) -> list[str]:
        """None: only KerasHub itself knows its presets, and takes ten seconds to say so."""
        return []

    def load(self, name: str, options: BackboneOptions) -> Backbone:
        """Describe one. Raises BackboneError where KerasHub is not installed, or the folder holds no preset."""
        if find_spec("keras_hub") is None:
            raise BackboneError(f"keras_hub:{name} needs KerasHub; type pip install 'regraft[hub]'")
        if options.pixels and options.pixels not in RANGES:
            raise BackboneError(f"unknown range of pixels {options.pixels!r}; there is {', '.join(RANGES)}")
        folder = Path(name).expanduser()
        if not folder.is_dir():
            return HubBackbone(name, options)
        if not (folder / "config.json").is_file():
            raise BackboneError(f"{name} holds no preset: there is no config.json in it")
        return HubBackbone(str(folder.resolve()), options)


@dataclass(frozen=True)
class HubBackbone(Described):
    """One preset.

    Attributes:
        preset: what KerasHub is asked for: a name, an address or a whole path.
        options: size, stages, weights and range of pixels as they were asked for.
    """

    preset: str
    options: BackboneOptions
    licence = "as the preset's page says"
    top1 = None

    @property
    def name(self) -> str:
        """The full ``source:name``."""
        return f"keras_hub:{self.preset}"

    @property
    def at_hand(self) -> bool:
        """Whether it is a folder; what KerasHub has downloaded it does not tell without being loaded."""
        return Path(self.preset).is_dir()

    @cached_property
    def _content(self) -> list[str]:
        """What the preset is: the digests of a folder's files, or its name and who resolves it."""
        folder = Path(self.preset)
        if not folder.is_dir():
            from importlib.metadata import version

            return [self.preset, version("keras-hub")]
        return [f"{file.name} {digest_file(file)}" for file in sorted(folder.iterdir()) if file.is_file()]

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """What KerasHub says of it, asked once: ``size, mean, std, resample, parameters, shape``."""
        key = digest_json([self._content, _CODE_VERSION, "checked"])
        known = cache_folder("graphs") / f"preset-{key[:32]}.json"
        facts: dict[str, Any] | None = read_value(known)
        if facts is None:
            _console.note(f"asking KerasHub about {self.preset}")
            facts = dict(call("regraft._preset:preset_facts", {"preset": self.preset}, f"{self.name} cannot be built"))
            write_value(known, facts)
        return facts

    @property
    def fixed_size(self) -> bool:
        """Transformers have one size, but can be asked for others."""
        return not self._facts["shape"]

    @property
    def parameters(self) -> float:
        """In millions, without a head."""
        return float(self._facts["parameters"])

    @property
    def transform(self) -> Transform:
        """The centre square, in the range that the preset's image converter makes."""
        facts = self._facts
        size = self.options.size or facts["size"]
        if size is None:
            raise BackboneError(f"{self.name} does not say how large it wants photos; type --resolution PIXELS")
        if self.options.pixels:
            return Transform(size, 1.0, facts["resample"], *RANGES[self.options.pixels])
        if facts["mean"] is None:
            raise BackboneError(
                f"{self.name} does not say in which range it wants pixels; type --pixels with one of "
                f"{', '.join(RANGES)}"
            )
        return Transform(size, 1.0, facts["resample"], tuple(facts["mean"]), tuple(facts["std"]))

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the preset, other weights, transform, wish for stages, and this code's version."""
        self.require_weights()
        weights = self.options.weights
        known = {"": "", "none": DRAWN}
        digest = known[weights] if weights in known else digest_file(Path(weights).expanduser())
        return digest_json([self._content, digest, self.transform.to_dict(), self.options.stages, _CODE_VERSION])

    def require_weights(self) -> None:
        """Raise BackboneError where a file of weights was given and is not there."""
        weights = self.options.weights
        if weights not in ("", "none") and not Path(weights).expanduser().is_file():
            raise BackboneError(f"there is no file of weights {weights}; wanted a path, none, or nothing")

    def keras_model(self) -> keras.Model:
        """Build it, channels last: input (N, H, W, 3) after mean and std, output (N, D)."""
        size, weights = self.transform.size, self.options.weights
        keyword = self._facts["shape"] or ("image_shape" if size != self._facts["size"] else "")
        shape = {keyword: (size, size, 3)} if keyword else {}
        try:
            whole = _load(self.preset, weights == "", **shape)
            if weights == "none":
                draw_weights(whole)
            elif weights:
                whole.load_weights(str(Path(weights).expanduser()))
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            raise BackboneError(f"{self.name} at {size} px cannot be loaded: {text}") from error
        tower = photo_tower(whole)
        if len(tower.outputs[0].shape) == 3:
            outputs = _token_outputs(tower, size, self.options.stages)
        elif len(tower.outputs[0].shape) == 4:
            outputs = stage_outputs(tower, size, self.options.stages)
        else:
            outputs = [("output", tower.outputs[0])]
        return pooled(tower.inputs[0], outputs, "keras_hub")


def _load(preset: str, weights: bool, **shape: Any) -> keras.Model:
    import keras_hub

    return keras_hub.models.Backbone.from_preset(preset, load_weights=weights, **shape)


def photo_tower(whole: keras.Model) -> keras.Model:
    """Of a network for photos and text the half for photos. Raises BackboneError where it takes no photos."""
    tower = getattr(whole, "vision_encoder", whole)
    photos = [x for x in tower.inputs if len(x.shape) == 4]
    if len(photos) != 1 or len(tower.inputs) != 1 or len(tower.outputs[0].shape) not in (2, 3, 4):
        raise BackboneError(f"{type(whole).__name__} is no network for photos")
    return tower


def _token_outputs(tower: keras.Model, size: int, wanted: str) -> list[tuple[str, Any]]:
    """The class token (N, D), where there is one, and the average of the patches (N, D).

    What stands before the patches is the class token, then perhaps a token for distillation or registers.
    """
    import keras

    tokens = tower.outputs[0]  # (N, T, D)
    patch = getattr(tower, "patch_size", 0)
    patch = patch if isinstance(patch, int) else patch[0]
    before = tokens.shape[1] - (size // patch) ** 2 if patch else 0
    found = {"patches": keras.ops.mean(tokens[:, max(before, 0) :], axis=1)}
    if before > 0:
        found = {"class_token": tokens[:, 0], **found}
    names = list(found)[:1] if wanted == "last" else wanted.split(",") if wanted else list(found)
    missing = [name for name in names if name not in found]
    if missing:
        raise BackboneError(f"there is no stage {', '.join(missing)}; there is {', '.join(found)}, and last")
    return [(name, found[name]) for name in names]
