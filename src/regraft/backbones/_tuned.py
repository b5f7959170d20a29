"""A backbone with fine-tuned weights, and the frozen part of one below the blocks that are to be trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft._files import digest_file, digest_json
from regraft.backbones import Backbone, BackboneOptions
from regraft.backbones._blocks import blocks
from regraft.backbones._graphs import Described
from regraft.errors import BackboneError
from regraft.images import Transform

if TYPE_CHECKING:
    import keras

_CODE_VERSION = 1  # raise it when the results of the same weights and photo change


class _Wrapped(Described, ABC):
    """Describes itself as its base does."""

    top1 = None  # no longer what was published

    def __init__(self, base: Backbone, options: BackboneOptions) -> None:
        self.base = base
        self.options = options
        self.name, self.licence, self.parameters = base.name, base.licence, base.parameters
        self.fixed_size, self.at_hand = base.fixed_size, base.at_hand

    @property
    def transform(self) -> Transform:
        """The base's."""
        return self.base.transform

    def require_weights(self) -> None:
        """Raise BackboneError where the base's weights are not on this machine."""
        self.base.require_weights()

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Digest of the base and of what differs."""

    @abstractmethod
    def keras_model(self) -> keras.Model:
        """Input (N, H, W, 3) after mean and std."""

    def _network(self) -> keras.Model:
        network = self.base.keras_model()
        if network is None:
            raise BackboneError(f"{self.name} has no Keras model, so it stays frozen")
        return network


class Tuned(_Wrapped):
    """A backbone whose weights, all or some, come from a file that `write_weights` wrote."""

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the base and the file. Raises BackboneError where that is missing."""
        self.require_weights()
        return digest_json([self.base.fingerprint, digest_file(Path(self.options.tuned)), _CODE_VERSION])

    def require_weights(self) -> None:
        """Raise BackboneError where the base's weights or the file are not on this machine."""
        super().require_weights()
        if not Path(self.options.tuned).is_file():
            raise BackboneError(f"{self.options.tuned} is missing; fine-tune again")

    def keras_model(self) -> keras.Model:
        """The base's network with these weights."""
        self.require_weights()
        network = self._network()
        read_weights(network, Path(self.options.tuned))
        return network


class Trunk(_Wrapped):
    """What stays frozen: its result are maps (h, w, C), those at which the first thawed block begins."""

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the base and the cut."""
        return digest_json([self.base.fingerprint, "trunk", self.options.thawed, _CODE_VERSION])

    def keras_model(self) -> keras.Model:
        """Input (N, H, W, 3) after mean and std, output (N, h, w, C)."""
        import keras

        network = self._network()
        return keras.Model(network.inputs[0], cut_of(network, self.options.thawed), name="trunk")


def cut_of(network: keras.Model, thawed: int) -> Any:
    """The maps at which the last ``thawed`` blocks begin. Raises BackboneError where there are not so many."""
    found = blocks(network)
    if not 0 < thawed <= len(found):
        raise BackboneError(f"there are {len(found)} blocks to thaw, not {thawed}; or type --thaw all")
    return found[-thawed]


def write_weights(network: keras.Model, changed: list[Any], path: Path, before: str = "") -> None:
    """Save the weights of the layers ``changed``: by number, since Keras makes up names anew in each process.

    With them go those that are in the file ``before``, of an earlier fine-tuning of the same network.
    """
    from safetensors import safe_open
    from safetensors.numpy import save_file

    wanted = {id(variable) for layer in changed for variable in layer.variables}
    numbers = {i for i, variable in enumerate(network.variables) if id(variable) in wanted}
    if before:
        with safe_open(before, "numpy") as file:
            numbers |= {int(name) for name in file.keys()}  # noqa: SIM118
    variables = network.variables
    save_file({f"{i:04}": variables[i].numpy() for i in sorted(numbers)}, path)


def read_weights(network: keras.Model, path: Path) -> None:
    """The opposite of `write_weights`. Raises BackboneError where the file is of another network."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    variables = network.variables
    try:
        for number, array in load_file(path).items():
            variables[int(number)].assign(array)
    except (OSError, ValueError, IndexError, SafetensorError) as error:
        raise BackboneError(f"{path} does not fit the network ({error}); fine-tune again") from error
