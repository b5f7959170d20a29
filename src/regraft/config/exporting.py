"""The options of an export.

In: keyword arguments, a TOML file, or flags. Out: `ExportConfig`, checked.
Why: the format and the quantisation decide what another runtime can read, and how well it answers.
Surprise: which quantisations there are depends on the format, and is checked by its exporter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regraft.config.values import require_types
from regraft.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """The format of an export, and its quantisation."""

    heading: ClassVar[str] = "what is written"

    format: str = "litert"
    """Format: litert (.tflite), onnx, openvino, saved-model, keras (.keras) or graph-def (.pb)."""

    quantize: str = ""
    """Quantisation of weights and activations: with litert fp16, int8-weights or int8; with openvino fp16 or int8."""

    min_agreement: float = 0.98
    """Smallest share of validation photos on which a quantised export must give the answer of the run; with less,
    nothing is kept."""

    def __post_init__(self) -> None:
        """Check the types of the values, and what no type can say."""
        require_types(self)
        if not 0 <= self.min_agreement <= 1:
            raise ConfigError(f"min_agreement {self.min_agreement:g} is no share; wanted 0 to 1")
