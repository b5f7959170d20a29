"""``file:PATH``: a network on disk, frozen: ONNX, TFLite, SavedModel, OpenVINO IR, frozen GraphDef, ``.keras``.

Size, layout and type of its input are read from the file. What no file tells, the range of its pixels, is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft import _console
from regraft._files import digest_file, digest_json
from regraft.backbones import RANGES, Backbone, BackboneOptions
from regraft.backbones._graphs import Described
from regraft.errors import BackboneError, UnknownBackboneError
from regraft.images import Transform

if TYPE_CHECKING:
    import keras

_CODE_VERSION = 1  # raise it when the features of the same file and photo change
_SUFFIXES = (".onnx", ".tflite", ".xml", ".pb", ".keras")


class FileSource:
    """``file:`` and a path."""

    def names(self) -> list[str]:
        """None: what is on disk is the user's."""
        return []

    def load(self, name: str, options: BackboneOptions) -> Backbone:
        """Describe the file. Raises BackboneError where it is none that can be read, or says too little of itself."""
        path = Path(name).expanduser()
        if not path.exists():
            raise UnknownBackboneError(f"there is no file {name}; wanted a SavedModel folder or {', '.join(_SUFFIXES)}")
        if not (path / "saved_model.pb").is_file() and path.suffix.lower() not in _SUFFIXES:
            raise UnknownBackboneError(f"{name} is no SavedModel folder, nor {', '.join(_SUFFIXES)}")
        if options.weights:
            raise BackboneError("a network on disk has its own weights; leave --weights out")
        if options.pixels and options.pixels not in RANGES:
            raise BackboneError(f"unknown range of pixels {options.pixels!r}; there is {', '.join(RANGES)}")
        return FileBackbone(path.resolve(), options)


@dataclass(frozen=True)
class FileBackbone(Described):
    """One network on disk.

    Attributes:
        path: the file, or the SavedModel's folder.
        options: size, stages and range of pixels as they were asked for.
    """

    path: Path
    options: BackboneOptions
    licence = "unknown"
    parameters = 0.0
    at_hand = True
    top1 = None
    fixed_size = True

    @property
    def name(self) -> str:
        """``file:`` and the whole path."""
        return f"file:{self.path}"

    @cached_property
    def _input(self) -> _Input:
        return _Input.of(self.path, self.options)

    @property
    def transform(self) -> Transform:
        """The centre square, in the range that was asked for, or bytes as they are where the file wants bytes."""
        mean, std, order = RANGES["0..255" if self._input.bytes else self.options.pixels]
        return Transform(self._input.size, 1.0, "bilinear", mean, std, order)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the file's content, transform, stages and this code's version."""
        files = sorted(p for p in self.path.rglob("*") if p.is_file()) if self.path.is_dir() else [self.path]
        files += [self.path.with_suffix(".bin")] if self.path.suffix.lower() == ".xml" else []
        digests = [digest_file(file) for file in files]
        return digest_json([digests, self.transform.to_dict(), self.options.stages, _CODE_VERSION])

    def require_weights(self) -> None:
        """They are in the file."""

    def keras_model(self) -> keras.Model | None:
        """Of a ``.keras`` file the network it holds; of all others none."""
        if self.path.suffix.lower() != ".keras":
            return None
        import keras

        try:
            model = keras.saving.load_model(self.path, compile=False)  # in safe mode: no code of the file's own runs
        except Exception as error:
            raise BackboneError(f"{self.path} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
        output = model.outputs[0]
        if len(output.shape) == 4:
            output = keras.layers.GlobalAveragePooling2D()(output)
        return keras.Model(model.inputs[0], output)

    def openvino_model(self) -> tuple[Any, dict[str, int]]:
        """The network as OpenVINO reads it: one photo in, features (1, D) out; and its stages with their widths."""
        import openvino

        model = _read(self.path)
        seen = self._input
        model.reshape([1, 3, seen.size, seen.size] if seen.first else [1, seen.size, seen.size, 3])
        wanted = [name for name in self.options.stages.split(",") if name and name != "last"]
        outputs = [_named(model, name) for name in wanted] or [model.outputs[0].get_node().input_value(0)]
        rows = [_pooled(output, seen.first, self.path) for output in outputs]
        from openvino import opset13

        features = opset13.concat(rows, 1) if len(rows) > 1 else rows[0]
        result = openvino.Model([features.output(0)], model.get_parameters(), "features")
        names = wanted or [model.outputs[0].get_node().input_value(0).get_node().get_friendly_name()]
        return result, {name: row.get_output_shape(0)[-1] for name, row in zip(names, rows, strict=True)}


@dataclass(frozen=True)
class _Input:
    """What a network takes: the side of its square, channels first or last, bytes or floats."""

    size: int
    first: bool
    bytes: bool

    @classmethod
    def of(cls, path: Path, options: BackboneOptions) -> _Input:
        shape, kind = _keras_input(path) if path.suffix.lower() == ".keras" else _openvino_input(path)
        if len(shape) != 4 or 3 not in (shape[1], shape[3]):
            raise BackboneError(f"{path} takes {shape}; wanted one RGB photo, (N, H, W, 3) or (N, 3, H, W)")
        first = shape[1] == 3
        sides = set(shape[2:] if first else shape[1:3])
        if None in sides and options.size is None:
            raise BackboneError(f"{path} takes photos of any size; type --resolution PIXELS")
        side = options.size if None in sides else next(iter(sides))
        if len(sides) != 1 or side is None or (options.size or side) != side:
            raise BackboneError(f"{path} takes photos of {shape} only")
        if kind != "u8" and not options.pixels:
            raise BackboneError(
                f"{path} does not say in which range it wants pixels; type --pixels with one of {', '.join(RANGES)}"
            )
        return cls(side, first, kind == "u8")


def _openvino_input(path: Path) -> tuple[tuple[int | None, ...], str]:
    model = _read(path)
    if len(model.inputs) != 1:
        raise BackboneError(f"{path} takes {len(model.inputs)} inputs; wanted one, a photo")
    kind = model.inputs[0].get_element_type().get_type_name()
    if kind not in ("u8", "f32", "f16"):
        raise BackboneError(f"{path} takes {kind}; wanted bytes or floats")
    if model.inputs[0].partial_shape.rank.is_dynamic:
        raise BackboneError(f"{path} does not say what it takes; export it with a fixed input shape")
    return tuple(None if d.is_dynamic else d.get_length() for d in model.inputs[0].partial_shape), kind


def _keras_input(path: Path) -> tuple[tuple[int | None, ...], str]:
    """Read from the file's own description, without loading Keras."""
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


def _read(path: Path) -> Any:
    import openvino

    try:
        with _console.silenced():  # what is no network is told in one line
            return openvino.Core().read_model(str(path))
    except RuntimeError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise BackboneError(f"{path} cannot be read: {(lines or ['no reason given'])[-1].strip()}") from error


def _named(model: Any, name: str) -> Any:
    found = {op.get_friendly_name(): op.output(0) for op in model.get_ops() if op.outputs()}
    found |= {known: output for op in model.get_ops() for output in op.outputs() for known in output.get_names()}
    if name not in found:
        import difflib

        near = difflib.get_close_matches(name, found, n=3, cutoff=0.3)
        raise BackboneError(f"there is no stage {name!r} in it; near are {', '.join(near) or 'none'}")
    return found[name]


def _pooled(output: Any, first: bool, path: Path) -> Any:
    """(1, D) float32 of a result (1, D), (1, H, W, D) or (1, D, H, W)."""
    import numpy as np
    from openvino import opset13

    floats = opset13.convert(output, "f32")
    shape = list(output.get_shape())
    if len(shape) == 2:
        return floats
    if len(shape) != 4:
        raise BackboneError(f"{path} gives {shape}; wanted (N, D) or maps; name a stage with --stages")
    # OpenVINO turns inner results of some formats; maps are square, so their channels are the odd dimension out.
    if (shape[2] == shape[3]) != (shape[1] == shape[2]):
        first = shape[2] == shape[3]
    return opset13.reduce_mean(floats, np.array([2, 3] if first else [1, 2], np.int64), keep_dims=False)
