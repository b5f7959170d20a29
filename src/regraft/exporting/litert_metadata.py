"""TFLite metadata, which MediaPipe Tasks and Android's tools read: the labels, and a description of input and outputs.

The tables are those of TensorFlow's ``metadata_schema.fbs``, written field by field: the package for them,
tflite-support, has had no release since Python 3.11, and MediaPipe's own writer cannot be imported.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regraft.exporting.formats.base import Facts

_NAME = b"TFLITE_METADATA"
_IMAGE_PROPERTIES, _FEATURE_PROPERTIES = 2, 1  # members of the union ContentProperties
_NORMALIZATION = 1  # member of the union ProcessUnitOptions
_RGB = 1  # member of the enum ColorSpaceType
_AXIS_LABELS = 2  # member of the enum AssociatedFileType
_MIN_PARSER_VERSION = "1.0.0"


def with_metadata(model: bytes, facts: Facts, files: Mapping[str, str]) -> bytes:
    """Return a .tflite model with metadata, labels and other files in it.

    Args:
        model: the bytes of the .tflite file.
        facts: the facts of the export.
        files: texts by file name; they are put into the zip archive at the end of the file.
    """
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    tree = schema.ModelT.InitFromPackedBuf(model, 0)
    graph = tree.subgraphs[0]
    # The converter sorts outputs by name. The probabilities must come first, for programs that read one output only.
    graph.outputs = sorted(graph.outputs, key=lambda index: -len(graph.tensors[index].shape))
    ranks = [len(graph.tensors[index].shape) for index in graph.outputs]
    buffer = schema.BufferT()
    buffer.data = list(_metadata(facts, ranks))
    tree.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = _NAME, len(tree.buffers) - 1
    tree.metadata = [*(one for one in tree.metadata or [] if one.name != _NAME), entry]
    builder = Builder(len(model) + 2**16)
    builder.Finish(tree.Pack(builder), b"TFL3")
    packed = io.BytesIO(bytes(builder.Output()))
    packed.seek(0, io.SEEK_END)
    texts = {"labels.txt": "".join(f"{label}\n" for label in facts.classes), "novelty.txt": "novelty\n", **files}
    with zipfile.ZipFile(packed, "a") as archive:
        for name, text in texts.items():
            archive.writestr(name, text.encode())
    return packed.getvalue()


def _metadata(facts: Facts, ranks: Sequence[int]) -> bytes:
    """Return the metadata flatbuffer; ``ranks`` has the number of axes of each output: 2 means probabilities."""
    from flatbuffers import Builder

    table = _Tables(Builder(4096))
    photo = table(
        table.text("image"),
        table.text(f"RGB photo, {facts.transform.size} pixels a side, 0 to 255"),
        None,
        table(("byte", _IMAGE_PROPERTIES), table(("byte", _RGB))),
        table.vector([table(("byte", _NORMALIZATION), table(table.floats([0.0]), table.floats([1.0])))]),
        table(table.floats([255.0]), table.floats([0.0])),
    )
    outputs = []
    for rank in ranks:
        name, labels = ("probabilities", "labels.txt") if rank == 2 else ("novelty", "novelty.txt")
        file = table(table.text(labels), None, ("byte", _AXIS_LABELS))
        content = table(("byte", _FEATURE_PROPERTIES), table())
        outputs.append(table(table.text(name), None, None, content, None, None, table.vector([file])))
    subgraph = table(None, None, table.vector([photo]), table.vector(outputs))
    root = table(
        table.text("regraft"),
        table.text(f"Run {facts.run}, written by regraft {facts.regraft}, on {facts.backbone}"),
        table.text(facts.regraft),
        table.vector([subgraph]),
        None,
        table.text(facts.licence),
        None,
        table.text(_MIN_PARSER_VERSION),
    )
    table.builder.Finish(root, b"M001")
    return bytes(table.builder.Output())


class _Tables:
    """Writes the tables of a flatbuffer; a call writes one table.

    The arguments of the call are the table's fields in the order of the schema; None leaves out a field.
    """

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def __call__(self, *values: Any) -> int:
        self.builder.StartObject(len(values))
        for slot, value in enumerate(values):
            if isinstance(value, tuple):
                self.builder.PrependUint8Slot(slot, value[1], 0)
            elif value is not None:
                self.builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        return int(self.builder.EndObject())

    def text(self, value: str) -> int:
        """Write a string, and return its offset."""
        return int(self.builder.CreateString(value))

    def vector(self, offsets: Sequence[int]) -> int:
        """Write a vector of tables or strings, given by their offsets, and return its offset."""
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def floats(self, values: Sequence[float]) -> int:
        """Write a vector of float32 numbers, and return its offset."""
        self.builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.builder.PrependFloat32(value)
        return int(self.builder.EndVector())
