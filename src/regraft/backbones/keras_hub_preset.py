"""The facts that KerasHub has about a preset. They are read in a process of its own, without loading weights.

The reason for the process is that KerasHub takes ten seconds to import, and also imports TensorFlow.
"""

from __future__ import annotations

from typing import Any

from regraft.backbones.keras_hub import photo_tower
from regraft.errors import BackboneError
from regraft.foundation.keras_import import import_keras


def preset_facts(preset: str) -> dict[str, Any]:
    """Return the facts that a `HubBackbone` needs about a preset.

    Returns:
        A dict with these keys. ``size``: the side of the photos in pixels, or None. ``mean`` and ``std``: three values
        in 0..255, or None if the preset has no image converter. ``resample``: ``bilinear`` or ``bicubic``.
        ``parameters``: the number of weights in millions. ``shape``: for a convolutional network the keyword that sets
        another size; empty for other networks.

    Raises:
        BackboneError: KerasHub cannot load the preset, or the network takes no photos.
    """
    import inspect

    import_keras()  # before KerasHub, which would import Keras itself
    import keras_hub

    try:
        whole = keras_hub.models.Backbone.from_preset(preset, load_weights=False)
    except Exception as error:
        raise BackboneError(" ".join(str(error).split())[:400]) from error
    tower = photo_tower(whole)
    try:
        converter = keras_hub.layers.ImageConverter.from_preset(preset)
    except (ValueError, FileNotFoundError):  # the preset has only a network
        converter = None
    own = getattr(converter, "image_size", None) or tower.inputs[0].shape[1:3]
    keywords = inspect.signature(type(whole).__init__).parameters
    mean, std = (None, None) if converter is None else _mean_and_std(converter.scale, converter.offset)
    return {
        "size": own[0],
        "mean": mean,
        "std": std,
        "resample": "bicubic" if getattr(converter, "interpolation", "") == "bicubic" else "bilinear",
        "parameters": round(tower.count_params() / 1e6, 1),
        "shape": next((k for k in keywords if k.endswith("_shape")), "") if len(tower.outputs[0].shape) == 4 else "",
    }


def _mean_and_std(scale: Any, offset: Any) -> tuple[list[float], list[float]]:
    """Return mean and std for which ``(x - mean) / std`` equals ``x * scale + offset``.

    ``scale`` and ``offset`` are one number, three numbers, or None for 1 and 0.
    """
    scales, offsets = _triple(scale, 1.0), _triple(offset, 0.0)
    return [-o / s for s, o in zip(scales, offsets, strict=True)], [1 / s for s in scales]


def _triple(value: Any, default: float) -> list[float]:
    """Return a value for each of the three channels, from three values, one value, or None for ``default``."""
    if isinstance(value, list | tuple):
        return [float(v) for v in value]
    return [default if value is None else float(value)] * 3
