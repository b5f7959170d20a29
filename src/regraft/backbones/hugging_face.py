"""``hf:OWNER/NAME``: ONNX networks of the Hugging Face Hub, without torch and transformers.

The features are found in the graph (`regraft.backbones.onnx_features`), the transform of the photos is read from
``preprocessor_config.json`` and ``config.json``, and the licence from the model card. The name of a backbone has the
commit in it, so that a run keeps to the files with which it was trained.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from regraft.backbones.base import Backbone, BackboneOptions
from regraft.backbones.graphs import Described
from regraft.backbones.onnx_features import OnnxNetwork
from regraft.backbones.openvino_network import read_network
from regraft.downloads.hub_snapshot import Snapshot, snapshot
from regraft.downloads.model_card_licence import Licence
from regraft.errors import BackboneError, option
from regraft.foundation import console
from regraft.foundation.cache_files import writable_place
from regraft.foundation.documents import MEBIBYTE, Fields, mended, read_json
from regraft.foundation.files import digest_json, set_environment, shelter_in
from regraft.photos.images import Transform
from regraft.photos.preprocessor_config import Processor, read_processor

_CODE_VERSION = 1  # raise it when the features of the same files and photo change
_NAME = re.compile(
    r"(?P<repository>[\w.-]+/[\w.-]+)(?:/(?P<file>[\w./-]+\.onnx))?(?:@(?P<revision>[\w./-]+))?", re.ASCII
)
_NETWORKS = ("onnx/vision_model.onnx", "onnx/model.onnx", "model.onnx")
"""The files that are looked for, in this order. The first is the part for photos of a network that also takes text."""

_MOST_JSON = 16 * MEBIBYTE  # a config.json with the names of 21,841 classes has 2 MB

_told: set[str] = set()
"""The names of the backbones about which this process has told the user."""


class HuggingFaceSource:
    """The source ``hf:``, whose names are repositories of the Hugging Face Hub."""

    def names(self) -> list[str]:
        """Return an empty list: the Hub has too many networks to list, and listing them needs a network."""
        return []

    def load(self, name: str, options: BackboneOptions) -> Backbone:
        """Return the description of a network, at the commit that its revision has now.

        Args:
            name: ``OWNER/NAME``, ``OWNER/NAME/FILE.onnx``, or one of these with ``@REVISION``.
            options: the size and the stages that the user set.

        Raises:
            BackboneError: huggingface_hub is not installed, the options set weights or a range of pixels, or there is
                no such repository or revision.
        """
        found = _NAME.fullmatch(name)
        if found is None or ".." in name:
            raise BackboneError(f"hf:{name} names no network; wanted hf:OWNER/NAME, with @REVISION if you like")
        if find_spec("huggingface_hub") is None:
            raise BackboneError(f"hf:{name} needs huggingface_hub; type pip install 'regraft[hf]'")
        set_environment("HF_HUB_DISABLE_TELEMETRY", "1")  # read when the library is imported
        for given in ("weights", "pixels"):
            if getattr(options, given):
                raise BackboneError(f"hf:{name} has its own {given}; leave {option(given)} out")
        return HuggingFaceBackbone(snapshot(found["repository"], found["revision"] or "main"), found["file"], options)


@dataclass(frozen=True)
class HuggingFaceBackbone(Described):
    """The backbone of one ONNX network of the Hub.

    Attributes:
        source: the repository at its commit.
        file: the name of the ONNX file if the user named it, else None.
        options: the size and the stages that the user set.
    """

    source: Snapshot
    file: str | None
    options: BackboneOptions
    parameters: float = 0.0
    top1 = None
    has_keras_model = False

    @property
    def name(self) -> str:
        """The full name of the backbone, with the commit."""
        return f"hf:{self._place}@{self.source.commit}"

    @property
    def _place(self) -> str:
        """The repository, with the ONNX file if the user named it."""
        return f"{self.source.repository}/{self.file}" if self.file else self.source.repository

    @property
    def fixed_size(self) -> bool:
        """Whether the network takes photos of one size only, or is a transformer, which is best at its own size."""
        network = self._network()
        return network.side is not None or network.has_attention

    @property
    def transform(self) -> Transform:
        """The transform that the repository describes, at the size that the user set."""
        transform = self._processor.transform
        return replace(transform, size=self.options.size or transform.size)

    @cached_property
    def _processor(self) -> Processor:
        """The transform that the repository describes. Raises BackboneError."""
        with mended(BackboneError, f"so hf:{self.source.repository} cannot be used"):
            return read_processor(self._fields("preprocessor_config.json"), self._fields("config.json"))

    def _fields(self, name: str) -> Fields | None:
        """Return the values of a JSON file of the repository; None if there is none. Raises DamagedError."""
        path = self.source.file(name)
        return None if path is None else Fields(read_json(path, _MOST_JSON), name)

    @property
    def licence(self) -> str:
        """The SPDX identifier of the licence in the model card, another name of a licence in it, or ``unknown``."""
        return self._licence.name

    @cached_property
    def _licence(self) -> Licence:
        return Licence.of(self.source.file_if_reachable("README.md"), self.source.page)

    @property
    def at_hand(self) -> bool:
        """Whether the network is in the Hub's cache on this machine."""
        return any(map(self.source.cached, [self.file] if self.file else _NETWORKS))

    @cached_property
    def _files(self) -> tuple[Path, ...]:
        """The ONNX file, and the files of weights beside it if there are any. Raises BackboneError."""
        names = [self.file] if self.file else sorted(_NETWORKS, key=lambda name: not self.source.cached(name))
        for name in names:
            if (network := self.source.file(name)) is not None:
                return network, *self._weights(name)
        there = self.source.names(".onnx")
        hint = (
            f"there is {', '.join(there)}; type hf:{self.source.repository}/{there[0]}" if there else "it has no ONNX"
        )
        raise BackboneError(f"{self.source.repository} has no {' and no '.join(names)}; {hint}")

    def _weights(self, network: str) -> Iterator[Path]:
        """Yield the files of weights beside an ONNX file: FILE_data, FILE_data_1, FILE_data_2 and so on."""
        number, path = 0, self.source.file_if_reachable(f"{network}_data")
        while path is not None:
            yield path
            number += 1
            path = self.source.file_if_reachable(f"{network}_data_{number}")

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the ONNX file, the weights beside it, the transform, the option for stages and this code's version.

        Raises:
            BackboneError: a file is missing or damaged.
        """
        digests = [self.source.digest(file) for file in self._files]
        return digest_json([digests, self.transform.to_dict(), self.options.stages, _CODE_VERSION])

    def require_weights(self) -> None:
        """Download the network if it is not in the cache, and tell the user what differs and which licence it has.

        Raises:
            BackboneError: the network can neither be found in the cache nor be downloaded, or it is damaged.
        """
        if not self.fingerprint or self.name in _told:  # a fingerprint needs all files, and finds damaged ones
            return
        _told.add(self.name)
        for difference in self._processor.differences:
            console.warn(f"hf:{self.source.repository}: {difference}")
        if self._licence.warning:
            console.warn(f"hf:{self.source.repository}: {self._licence.warning}")
        else:
            console.note(f"hf:{self.source.repository}: the licence of its weights is {self.licence}")

    def keras_model(self) -> None:
        """Return None: the network is a graph."""

    def openvino_model(self) -> tuple[Any, dict[str, int]]:
        """Return the OpenVINO model of the network, and the number of features of each stage by its name.

        The model takes one photo after mean and standard deviation, and returns the features (1, D).

        Raises:
            BackboneError: the file cannot be read, or has no such stage.
        """
        return self._network().features(self.transform.size, self.options.stages)

    def _network(self) -> OnnxNetwork:
        """Return the network of the ONNX file. Raises BackboneError."""
        with _without_links(self._files) as file:
            return OnnxNetwork(read_network(file), self._files[0])


@contextmanager
def _without_links(files: Sequence[Path]) -> Iterator[Path]:
    """Yield the path of an ONNX file beside its files of weights, none of which is a symbolic link.

    The Hub's cache consists of symbolic links, and OpenVINO reads no weights that lie in another folder.
    """
    if len(files) == 1:
        yield files[0]
        return
    with shelter_in(writable_place("downloads", files[0].name).parent) as folder:
        for file in files:
            try:
                (folder / file.name).hardlink_to(file.resolve())
            except OSError:  # the two folders are on different disks
                shutil.copyfile(file, folder / file.name)
        yield folder / files[0].name
