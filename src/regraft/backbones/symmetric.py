"""A backbone whose features are means over the symmetric images of a photo.

In: a backbone, and ``mirror`` or ``all``. Out: a backbone with as many features, for two or eight times the work.
Why: in photos from above or through a microscope nothing is up, and the answer should not depend on how one lies.
Surprise: the images are made inside the graph, so every export and server answers as the run does.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.backbones.base import Backbone
from regraft.backbones.tuned_weights import Wrapped
from regraft.foundation.files import digest_json

if TYPE_CHECKING:
    import keras

_CODE_VERSION = 1  # raise it when the results of the same weights and photo change


class Symmetric(Wrapped):
    """A backbone whose features are the means over a photo and its mirror image, or over its eight symmetric images.

    The eight are the rotations by quarter turns, each with its mirror image.
    """

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the base and the symmetry."""
        return digest_json([self.base.fingerprint, "symmetry", self.options.symmetry, _CODE_VERSION])

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of the base."""
        return self.base.stages

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of features of each stage of the base."""
        return self.base.widths

    def keras_model(self) -> keras.Model | None:
        """Return the network of the base on all images, with the mean of their features; None if the base has none."""
        import keras
        from keras import ops

        network = self.base.keras_model()
        if network is None:
            return None
        photo = keras.Input(network.inputs[0].shape[1:])
        first = photo.shape[1] == 3
        rows, columns = (2, 3) if first else (1, 2)
        images = [photo, ops.flip(photo, columns)]
        if self.options.symmetry == "all":
            images += [ops.flip(image, rows) for image in images]
            images += [ops.transpose(image, (0, 1, 3, 2) if first else (0, 2, 1, 3)) for image in images]
        found = network(ops.concatenate(images, axis=0))
        return keras.Model(photo, ops.mean(ops.reshape(found, (len(images), -1, found.shape[-1])), axis=0))


def of_one_image(backbone: Backbone) -> Backbone:
    """Return the backbone from which a `Symmetric` one is made; any other backbone as it is."""
    return backbone.base if isinstance(backbone, Symmetric) else backbone


def averaged(model: Any, symmetry: str) -> Any:
    """Return an OpenVINO model that averages the output of a model over the symmetric images of its photo.

    All images go through the network at once, as a batch. ``model`` is changed.

    Args:
        model: an ``openvino.Model`` from one photo (1, S, S, 3) or (1, 3, S, S) to features (1, D).
        symmetry: ``mirror`` or ``all``.
    """
    import openvino
    from openvino import opset13 as ops

    old = model.get_parameters()[0]
    shape = list(model.input().shape)
    first = shape[1] == 3
    rows, columns = (2, 3) if first else (1, 2)
    photo = ops.parameter(shape, old.get_element_type(), name="photo")
    backwards = np.arange(shape[rows] - 1, -1, -1, dtype=np.int64)
    images = [photo, ops.gather(photo, backwards, np.int64(columns))]
    if symmetry == "all":
        images += [ops.gather(image, backwards, np.int64(rows)) for image in images]
        turned = np.array((0, 1, 3, 2) if first else (0, 2, 1, 3), np.int64)
        images += [ops.transpose(image, turned) for image in images]
    model.reshape([len(images), *shape[1:]])
    old.output(0).replace(ops.concat(images, 0).output(0))
    mean = ops.reduce_mean(model.get_results()[0].input_value(0), np.array([0], np.int64), keep_dims=True)
    return openvino.Model([ops.result(mean)], [photo], "symmetric")
