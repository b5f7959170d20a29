"""``keras_hub:PRESET``: networks that KerasHub loads: its own presets, ``hf://…``, ``kaggle://…`` or a preset's folder.

The features of a convolutional network are the averages of its activations over space, stage by stage. The features of
a transformer are the class token and the average of the patch tokens, which are the two inputs of the linear
classifiers in DINOv2 (arXiv:2304.07193). A network with two towers, such as SigLIP, is used without its text tower.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.backbones.base import RANGES, Backbone, BackboneOptions
from regraft.backbones.graphs import Described
from regraft.backbones.stages import DRAWN, draw_weights, pooled, stage_outputs
from regraft.errors import BackboneError, option
from regraft.foundation import console
from regraft.foundation.cache_files import read_value, write_value
from regraft.foundation.files import cache_folder, digest_file, digest_json
from regraft.foundation.processes import call
from regraft.photos.images import Transform

if TYPE_CHECKING:
    import keras

_CODE_VERSION = 1  # raise it when the features of the same preset and photo change


class HubSource:
    """The source ``keras_hub:``, whose names are presets of KerasHub."""

    def names(self) -> list[str]:
        """Return an empty list: only KerasHub knows its presets, and its import takes ten seconds."""
        return []

    def load(self, name: str, options: BackboneOptions) -> Backbone:
        """Return the description of a preset.

        Raises:
            BackboneError: KerasHub is not installed, the range of pixels is unknown, or the folder has no preset.
        """
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
    """The backbone of one preset.

    Attributes:
        preset: the preset for KerasHub: a name, an address or an absolute path.
        options: the size, the stages, the weights and the range of pixels that the user set.
    """

    preset: str
    options: BackboneOptions
    licence = "as the preset's page says"
    top1 = None
    has_keras_model = True

    @property
    def name(self) -> str:
        """The full name of the backbone, ``source:name``."""
        return f"keras_hub:{self.preset}"

    @property
    def at_hand(self) -> bool:
        """Whether the preset is a folder. For other presets only KerasHub knows, and its import is slow."""
        return Path(self.preset).is_dir()

    @cached_property
    def _content(self) -> list[str]:
        """The facts that identify the preset: the digests of a folder's files, or its name and KerasHub's version."""
        folder = Path(self.preset)
        if not folder.is_dir():
            from importlib.metadata import version

            return [self.preset, version("keras-hub")]
        return [f"{file.name} {digest_file(file)}" for file in sorted(folder.iterdir()) if file.is_file()]

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """The facts of `preset_facts` on the preset, from the cache or from a child process. Raises BackboneError."""
        key = digest_json([self._content, _CODE_VERSION, "checked"])
        known = cache_folder("graphs") / f"preset-{key[:32]}.json"
        facts: dict[str, Any] | None = read_value(known)
        if facts is None:
            console.note(f"asking KerasHub about {self.preset}")
            facts = dict(
                call(
                    "regraft.backbones.keras_hub_preset:preset_facts",
                    {"preset": self.preset},
                    f"{self.name} cannot be built",
                )
            )
            write_value(known, facts)
        return facts

    @property
    def fixed_size(self) -> bool:
        """Whether the size of the photos is fixed, as for a transformer, unless the user sets another size."""
        return not self._facts["shape"]

    @property
    def parameters(self) -> float:
        """The number of weights in millions, without a head."""
        return float(self._facts["parameters"])

    @property
    def transform(self) -> Transform:
        """The transform: the centre square, with the pixels scaled as the preset's image converter does.

        Raises:
            BackboneError: the preset does not say the size or the range of pixels, and the user did not set it.
        """
        facts = self._facts
        size = self.options.size or facts["size"]
        if size is None:
            raise BackboneError(
                f"{self.name} does not say how large it wants photos; type {option('resolution', 'PIXELS')}"
            )
        if self.options.pixels:
            return Transform(size, 1.0, facts["resample"], *RANGES[self.options.pixels])
        if facts["mean"] is None:
            raise BackboneError(
                f"{self.name} does not say in which range it wants pixels; type {option('pixels')} with one of "
                f"{', '.join(RANGES)}"
            )
        return Transform(size, 1.0, facts["resample"], tuple(facts["mean"]), tuple(facts["std"]))

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the preset, a file of weights, the transform, the option for stages and this code's version."""
        self.require_weights()
        weights = self.options.weights
        known = {"": "", "none": DRAWN}
        digest = known[weights] if weights in known else digest_file(Path(weights).expanduser())
        return digest_json([self._content, digest, self.transform.to_dict(), self.options.stages, _CODE_VERSION])

    def require_weights(self) -> None:
        """Raise BackboneError if the option for weights names a file that does not exist."""
        weights = self.options.weights
        if weights not in ("", "none") and not Path(weights).expanduser().is_file():
            raise BackboneError(f"there is no file of weights {weights}; wanted a path or none")

    def keras_model(self) -> keras.Model:
        """Build the network with channels last.

        Returns:
            A Keras model with the input (N, H, W, 3) after mean and standard deviation, and the features (N, D).

        Raises:
            BackboneError: the preset or its weights cannot be loaded, or there is no such stage.
        """
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
    """Return the network of a preset, with its weights if ``weights`` is set."""
    import keras_hub

    return keras_hub.models.Backbone.from_preset(preset, load_weights=weights, **shape)


def photo_tower(whole: keras.Model) -> keras.Model:
    """Return the part of a network that takes photos: the image tower, or the whole network if it has no towers.

    Raises:
        BackboneError: the network takes no photos.
    """
    tower = getattr(whole, "vision_encoder", whole)
    photos = [x for x in tower.inputs if len(x.shape) == 4]
    if len(photos) != 1 or len(tower.inputs) != 1 or len(tower.outputs[0].shape) not in (2, 3, 4):
        raise BackboneError(f"{type(whole).__name__} is not a network that takes photos")
    return tower


def _token_outputs(tower: keras.Model, size: int, wanted: str) -> list[tuple[str, Any]]:
    """Return the class token (N, D), if there is one, and the average of the patch tokens (N, D), each with its name.

    The tokens before the patch tokens are the class token and perhaps a distillation token or register tokens.

    Args:
        tower: a transformer with tokens (N, T, D) as output.
        size: the side of the photos in pixels.
        wanted: empty for all outputs, ``last`` for the first of them, or names separated by commas.

    Raises:
        BackboneError: there is no output of a wanted name.
    """
    import keras

    tokens = tower.outputs[0]  # (N, T, D)
    patch = getattr(tower, "patch_size", 0)
    patch = patch if isinstance(patch, int) else patch[0]
    before = tokens.shape[1] - (size // patch) ** 2 if patch else 0
    outputs = {"patches": keras.ops.mean(tokens[:, max(before, 0) :], axis=1)}
    if before > 0:
        outputs = {"class_token": tokens[:, 0], **outputs}
    names = list(outputs)[:1] if wanted == "last" else wanted.split(",") if wanted else list(outputs)
    missing = [name for name in names if name not in outputs]
    if missing:
        raise BackboneError(f"there is no stage {', '.join(missing)}; there is {', '.join(outputs)}, and last")
    return [(name, outputs[name]) for name in names]
