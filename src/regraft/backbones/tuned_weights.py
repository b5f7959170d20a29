"""A backbone with fine-tuned weights (`Tuned`), and the frozen part of a backbone below its thawed blocks (`Trunk`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.backbones.base import Backbone, BackboneOptions
from regraft.backbones.blocks import cut_of, joined
from regraft.backbones.graphs import Described
from regraft.errors import BackboneError
from regraft.foundation.documents import write_tensors
from regraft.foundation.files import digest_file, digest_json
from regraft.photos.images import Transform

if TYPE_CHECKING:
    import keras

_CODE_VERSION = 1  # raise it when the results of the same weights and photo change


class Wrapped(Described, ABC):
    """A backbone that is made from another one, and shares its description.

    Attributes:
        base: the other backbone.
        options: the options with which this backbone was loaded.
    """

    top1 = None  # the published accuracy does not hold for changed weights or activations

    def __init__(self, base: Backbone, options: BackboneOptions) -> None:
        self.base = base
        self.options = options
        self.name: str = base.name
        self.licence: str = base.licence
        self.parameters: float = base.parameters
        self.fixed_size: bool = base.fixed_size
        self.at_hand: bool = base.at_hand
        self.has_keras_model: bool = base.has_keras_model

    @property
    def transform(self) -> Transform:
        """The transform of the base."""
        return self.base.transform

    def require_weights(self) -> None:
        """Raise BackboneError if the weights of the base are not on this machine."""
        self.base.require_weights()

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Digest of the base and of the difference from the base."""

    @abstractmethod
    def keras_model(self) -> keras.Model:
        """Build the network with the input (N, H, W, 3) after mean and standard deviation. Raises BackboneError."""

    def _network(self) -> keras.Model:
        """Return the network of the base. Raises BackboneError if the base has no Keras model."""
        network = self.base.keras_model()
        if network is None:
            raise BackboneError(f"{self.name} has no Keras model, so it stays frozen")
        return network


class Tuned(Wrapped):
    """A backbone with fine-tuned weights: all or some of its weights come from a file that `write_weights` wrote.

    With the option ``beside`` the features of the frozen blocks stand before those of the fine-tuned ones.
    """

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the base and the file of weights. Raises BackboneError if the file is missing."""
        self.require_weights()
        beside = [self.options.beside] if self.options.beside else []
        return digest_json([self.base.fingerprint, digest_file(Path(self.options.tuned)), *beside, _CODE_VERSION])

    def require_weights(self) -> None:
        """Raise BackboneError if the weights of the base, or the file of weights, are missing."""
        super().require_weights()
        if not Path(self.options.tuned).is_file():
            raise BackboneError(f"{self.options.tuned} is missing; fine-tune again")

    def keras_model(self) -> keras.Model:
        """Return the network of the base with the fine-tuned weights: output (N, D). Raises BackboneError."""
        self.require_weights()
        network = self._network()
        read_weights(network, Path(self.options.tuned))
        if not self.options.beside:
            return network
        if not self.options.beside.isdecimal():
            raise BackboneError(f"beside is {self.options.beside!r}; wanted a number of blocks")
        return joined(self._network(), network, int(self.options.beside))


class Trunk(Wrapped):
    """The frozen part of a backbone. It returns the activations (h, w, C) at which the first thawed block begins."""

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the base and the number of thawed blocks."""
        return digest_json([self.base.fingerprint, "trunk", self.options.thawed, _CODE_VERSION])

    def keras_model(self) -> keras.Model:
        """Return the frozen network: input (N, H, W, 3) after mean and standard deviation, output (N, h, w, C).

        Raises:
            BackboneError: the base has no Keras model, or too few blocks.
        """
        import keras

        network = self._network()
        return keras.Model(network.inputs[0], cut_of(network, self.options.thawed), name="trunk")


def write_weights(network: keras.Model, changed: list[Any], path: Path, before: str = "") -> None:
    """Save the fine-tuned weights of a network.

    The keys are the indices of the variables, because Keras gives layers other names in each process.

    Args:
        network: the network.
        changed: the layers that were trained.
        path: the file to write (.safetensors).
        before: the file of an earlier fine-tuning of the same network. The variables in it are saved as well.
    """
    from safetensors import safe_open

    wanted = {id(variable) for layer in changed for variable in layer.variables}
    numbers = {i for i, variable in enumerate(network.variables) if id(variable) in wanted}
    if before:
        with safe_open(before, "numpy") as file:
            numbers |= {int(name) for name in file.keys()}  # noqa: SIM118
    variables = network.variables
    write_tensors(path, {f"{i:04}": variables[i].numpy() for i in sorted(numbers)})


def read_weights(network: keras.Model, path: Path) -> None:
    """Set the weights of a network to those that `write_weights` saved. Other weights stay as they are.

    Raises:
        BackboneError: the file cannot be read, or does not fit the network.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    variables = network.variables
    try:
        for number, array in load_file(path).items():
            variables[int(number)].assign(array)
    except (OSError, ValueError, IndexError, SafetensorError) as error:
        raise BackboneError(f"{path} does not fit the network ({error}); fine-tune again") from error
