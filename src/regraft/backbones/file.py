"""``file:PATH``: a frozen network on disk, as ONNX, TFLite, SavedModel, OpenVINO IR, frozen GraphDef or ``.keras``.

The size, the layout and the type of the input are read from the file. No file says which range of pixels the network
expects, so the user must set the range.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.backbones.base import RANGES, Backbone, BackboneOptions
from regraft.backbones.graphs import Described
from regraft.backbones.openvino_network import named_output, read_network, with_features
from regraft.errors import BackboneError, UnknownBackboneError, option
from regraft.foundation.files import digest_file, digest_json
from regraft.photos.images import Transform

if TYPE_CHECKING:
    import keras

_CODE_VERSION = 1  # raise it when the features of the same file and photo change
_SUFFIXES = (".onnx", ".tflite", ".xml", ".pb", ".keras")


class FileSource:
    """The source ``file:``, whose names are paths."""

    def names(self) -> list[str]:
        """Return an empty list: the networks are the user's own files."""
        return []

    def load(self, name: str, options: BackboneOptions) -> Backbone:
        """Return the description of the network at a path.

        Raises:
            UnknownBackboneError: there is no file at this path, or its format is not supported.
            BackboneError: the options set weights, or an unknown range of pixels.
        """
        path = Path(name).expanduser()
        if not path.exists():
            raise UnknownBackboneError(f"there is no file {name}; wanted a SavedModel folder or {', '.join(_SUFFIXES)}")
        if not (path / "saved_model.pb").is_file() and path.suffix.lower() not in _SUFFIXES:
            raise UnknownBackboneError(f"{name} is not a SavedModel folder or a file of type {', '.join(_SUFFIXES)}")
        if options.weights:
            raise BackboneError(f"a network on disk has its own weights; leave {option('weights')} out")
        if options.pixels and options.pixels not in RANGES:
            raise BackboneError(f"unknown range of pixels {options.pixels!r}; there is {', '.join(RANGES)}")
        return FileBackbone(path.resolve(), options)


@dataclass(frozen=True)
class FileBackbone(Described):
    """The backbone of one network on disk.

    Attributes:
        path: the file, or the folder of a SavedModel.
        options: the size, the stages and the range of pixels that the user set.
    """

    path: Path
    options: BackboneOptions
    licence = "unknown"
    parameters: float = 0.0
    at_hand = True
    has_keras_model = False
    top1 = None
    fixed_size = True

    @property
    def name(self) -> str:
        """The full name of the backbone: ``file:`` and the absolute path."""
        return f"file:{self.path}"

    @cached_property
    def _input(self) -> _Input:
        """The input of the network. Raises BackboneError."""
        return _Input.of(self.path, self.options)

    @property
    def transform(self) -> Transform:
        """The transform: the centre square, in the range that the user set, or as bytes if the network takes bytes.

        Raises:
            BackboneError: the file cannot be read, or regraft does not support its input.
        """
        mean, std, order = RANGES["0..255" if self._input.bytes else self.options.pixels]
        return Transform(self._input.size, 1.0, "bilinear", mean, std, order)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the file's content, the transform, the stages and the version of this code."""
        files = sorted(p for p in self.path.rglob("*") if p.is_file()) if self.path.is_dir() else [self.path]
        files += [self.path.with_suffix(".bin")] if self.path.suffix.lower() == ".xml" else []
        digests = [digest_file(file) for file in files]
        return digest_json([digests, self.transform.to_dict(), self.options.stages, _CODE_VERSION])

    def require_weights(self) -> None:
        """Do nothing: the weights are in the file."""

    def keras_model(self) -> keras.Model | None:
        """Return the network of a ``.keras`` file with features (N, D) as output; None for other files.

        Raises:
            BackboneError: Keras cannot load the file, or the options name stages.
        """
        if self.path.suffix.lower() != ".keras":
            return None
        if self.options.stages:
            raise BackboneError(f"{option('stages')} works with a graph; {self.path} gives its one output")
        import keras

        try:
            model = keras.saving.load_model(self.path, compile=False)  # Keras' safe mode runs no code of the file
        except Exception as error:
            raise BackboneError(f"{self.path} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
        output = model.outputs[0]
        if len(output.shape) == 4:
            output = keras.layers.GlobalAveragePooling2D()(output)
        return keras.Model(model.inputs[0], output)

    def openvino_model(self) -> tuple[Any, dict[str, int]]:
        """Return the OpenVINO model of the file, and the number of features of each stage by its name.

        The model takes one photo and returns the features (1, D).

        Raises:
            BackboneError: the file cannot be read, or has no such stage.
        """
        model = read_network(self.path)
        seen = self._input
        model.reshape([1, 3, seen.size, seen.size] if seen.first else [1, seen.size, seen.size, 3])
        wanted = [name for name in self.options.stages.split(",") if name and name != "last"]
        outputs = {name: named_output(model, name) for name in wanted}
        if not outputs:
            own = model.outputs[0].get_node().input_value(0)
            outputs = {own.get_node().get_friendly_name(): own}
        return with_features(model, outputs, seen.first, self.path)


@dataclass(frozen=True)
class _Input:
    """The input of a network.

    Attributes:
        size: the side of the photos in pixels.
        first: whether the channels come first.
        bytes: whether the network takes uint8, and not floats.
    """

    size: int
    first: bool
    bytes: bool

    @classmethod
    def of(cls, path: Path, options: BackboneOptions) -> _Input:
        """Return the input of the network at ``path``. Raises BackboneError if regraft does not support it."""
        shape, kind = _keras_input(path) if path.suffix.lower() == ".keras" else _openvino_input(path)
        if len(shape) != 4 or 3 not in (shape[1], shape[3]):
            raise BackboneError(f"{path} takes {shape}; wanted one RGB photo, (N, H, W, 3) or (N, 3, H, W)")
        first = shape[1] == 3
        sides = set(shape[2:] if first else shape[1:3])
        if None in sides and options.size is None:
            raise BackboneError(f"{path} takes photos of any size; type {option('resolution', 'PIXELS')}")
        side = options.size if None in sides else next(iter(sides))
        if len(sides) != 1 or side is None or (options.size or side) != side:
            raise BackboneError(f"{path} takes photos of {shape} only")
        if kind != "u8" and not options.pixels:
            raise BackboneError(
                f"{path} does not say in which range it wants pixels; type {option('pixels')} with one of "
                f"{', '.join(RANGES)}"
            )
        return cls(side, first, kind == "u8")


def _openvino_input(path: Path) -> tuple[tuple[int | None, ...], str]:
    """Return the shape and the type of the input of a file that OpenVINO reads. Raises BackboneError."""
    model = read_network(path)
    if len(model.inputs) != 1:
        raise BackboneError(f"{path} takes {len(model.inputs)} inputs; wanted one, a photo")
    kind = model.inputs[0].get_element_type().get_type_name()
    if kind not in ("u8", "f32", "f16"):
        raise BackboneError(f"{path} takes {kind}; wanted bytes or floats")
    if model.inputs[0].partial_shape.rank.is_dynamic:
        raise BackboneError(f"{path} does not give the shape of its input; export it with a fixed input shape")
    return tuple(None if d.is_dynamic else d.get_length() for d in model.inputs[0].partial_shape), kind


def _keras_input(path: Path) -> tuple[tuple[int | None, ...], str]:
    """Return the shape and the type of the input of a ``.keras`` file, without Keras. Raises BackboneError."""
    import json
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))["config"]
        layers = [layer["config"] for layer in config["layers"] if layer["class_name"] == "InputLayer"]
        (one,) = layers
        return tuple(one.get("batch_shape") or one["batch_input_shape"]), "f32"
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BackboneError(f"{path} is no .keras file of a network with one input: {error}") from error
