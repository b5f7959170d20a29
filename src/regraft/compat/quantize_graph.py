"""``regraft-quantize-graph``: export the run of a retrained graph again, with weights or values in eight bits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from regraft.cli.arguments import UsageError
from regraft.compat._flags import Flag, parse_flags
from regraft.compat._foreign import load_ours
from regraft.compat._main import entry
from regraft.compat._outputs import require_writable, run_behind, write_output
from regraft.errors import ExportError

MODES = {
    "round": "int8-weights",
    "weights": "int8-weights",
    "weights_rounded": "int8-weights",
    "quantize": "int8",
    "eightbit": "int8",
}
"""The quantisation for each mode of the original command.

The modes ``round`` and ``weights_rounded`` only rounded weights, which were stored as floats; here they become int8.
"""

_MEASURED = "ranges are measured on the run's own photos"
_UINT8 = "pixels go in as uint8"
_GRAPH = "a .tflite has no such nodes; its names are in it"

FLAGS = (
    Flag("input", "", "export of regraft-retrain, or a run folder"),
    Flag("output", "", "file to write: .tflite, or .xml with the modes quantize and eightbit"),
    Flag("output_node_names", "", "nothing", _GRAPH),
    Flag("mode", "round", "round, weights, weights_rounded: int8 weights; quantize, eightbit: int8 activations too"),
    Flag("bitdepth", 8, "number of bits: only 8"),
    Flag("print_nodes", False, "nothing", _GRAPH),
    Flag("test_input_dims", "1,224,224,3", "nothing", "the run knows the size of its input"),
    Flag("strip_redundant_quantization", True, "nothing", "the converter does so"),
    Flag("quantized_input", False, "nothing", _UINT8),
    Flag("quantized_input_min", 0.0, "nothing", _UINT8),
    Flag("quantized_input_max", 1.0, "nothing", _UINT8),
    Flag("quantized_fallback_min", 0.0, "nothing", _MEASURED),
    Flag("quantized_fallback_max", 0.0, "nothing", _MEASURED),
    Flag("checkpoint_path", "/tmp/_retrain_checkpoint", "the run from which --input was written"),
)


def quantize_graph(tokens: Sequence[str]) -> int:
    """Export a run with quantisation, and compare the export with the run. Raises RegraftError."""
    options = parse_flags("regraft-quantize-graph", "Make a retrained graph smaller.", FLAGS, tokens)
    if not options.input or not options.output:
        raise UsageError("must set flags --input and --output")
    if options.mode not in MODES:
        raise UsageError(f"unknown mode {options.mode!r}; choose from {', '.join(MODES)}")
    if options.bitdepth != 8:
        raise UsageError(f"bitdepth is {options.bitdepth}; wanted 8")
    output, bits = Path(options.output), MODES[options.mode]
    suffixes = (".tflite", ".xml") if bits == "int8" else (".tflite",)
    if output.suffix.lower() not in suffixes:
        raise ExportError(
            f"--output is {output}, and --mode {options.mode} needs {' or '.join(suffixes)}; type --output "
            f"{output.with_suffix('.tflite')}"
        )
    require_writable(output)
    # Quantisation needs the trained weights in floats, and calibration photos: a graph has neither.
    run = run_behind(load_ours(options.input), options.checkpoint_path)
    if run is None:
        raise ExportError(
            f"{options.input} was not written from a run in {options.checkpoint_path}; type --checkpoint_path, or "
            "--input, with its run"
        )
    write_output(run, output, quantize=bits)
    return 0


main: Callable[..., int] = entry(
    "regraft-quantize-graph",
    quantize_graph,
    {
        "quantize": "--mode",
        "min_agreement": "`regraft export --min-agreement`",
        "photos": "`regraft export RUN --photos FOLDER`",
    },
)


if __name__ == "__main__":
    sys.exit(main())
