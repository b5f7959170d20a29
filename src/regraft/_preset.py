"""What KerasHub knows of a preset, asked in a process of its own.

That is so since KerasHub takes ten seconds to import and brings TensorFlow with it. No weights are loaded.
"""

from __future__ import annotations

from typing import Any

from regraft.backbones.keras_hub import photo_tower
from regraft.errors import BackboneError


def preset_facts(preset: str) -> dict[str, Any]:
    """What a `HubBackbone` needs to know.

    ``size``; ``mean`` and ``std`` in 0..255, None where it does not say; ``resample``; ``parameters`` in millions; of
    a network of maps ``shape``, the keyword under which it takes another size.
    """
    import inspect

    import keras_hub

    try:
        whole = keras_hub.models.Backbone.from_preset(preset, load_weights=False)
    except Exception as error:
        raise BackboneError(" ".join(str(error).split())[:400]) from error
    tower = photo_tower(whole)
    try:
        converter = keras_hub.layers.ImageConverter.from_preset(preset)
    except (ValueError, FileNotFoundError):  # a bare network
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
    """``x * scale + offset``, numbers, triples or None, as ``(x - mean) / std``."""
    scales, offsets = _triple(scale, 1.0), _triple(offset, 0.0)
    return [-o / s for s, o in zip(scales, offsets, strict=True)], [1 / s for s in scales]


def _triple(value: Any, default: float) -> list[float]:
    if isinstance(value, list | tuple):
        return [float(v) for v in value]
    return [default if value is None else float(value)] * 3
