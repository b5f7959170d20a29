"""``regraft-quantize-graph``: the run behind a retrained graph, exported with fewer bits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from regraft._arguments import UsageError
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
"""What each of the old modes is today. Rounded weights that stay as long as they were help nobody any more."""

_MEASURED = "ranges are measured on the run's own photos"
_UINT8 = "pixels go in as uint8"
_GRAPH = "a .tflite has no such nodes; its names are in it"

FLAGS = (
    Flag("input", "", "what regraft-retrain wrote, or a run folder"),
    Flag("output", "", "the file to write: .tflite, or .xml with the modes quantize and eightbit"),
    Flag("output_node_names", "", "nothing", _GRAPH),
    Flag("mode", "round", "round, weights and weights_rounded: weights in 8 bits; quantize and eightbit: values too"),
    Flag("bitdepth", 8, "8; there is no other"),
    Flag("print_nodes", False, "nothing", _GRAPH),
    Flag("test_input_dims", "1,224,224,3", "nothing", "the run knows its size"),
    Flag("strip_redundant_quantization", True, "nothing", "the converter does so"),
    Flag("quantized_input", False, "nothing", _UINT8),
    Flag("quantized_input_min", 0.0, "nothing", _UINT8),
    Flag("quantized_input_max", 1.0, "nothing", _UINT8),
    Flag("quantized_fallback_min", 0.0, "nothing", _MEASURED),
    Flag("quantized_fallback_max", 0.0, "nothing", _MEASURED),
    Flag("checkpoint_path", "/tmp/_retrain_checkpoint", "the run from which --input was written"),
)


def quantize_graph(tokens: Sequence[str]) -> int:
    """Export again, compared with the run as every export is. Raises RegraftError."""
    options = parse_flags("regraft-quantize-graph", "Make a retrained graph smaller.", FLAGS, tokens)
    if not options.input or not options.output:
        raise UsageError("must set flags --input and --output")
    if options.mode not in MODES:
        raise UsageError(f"unknown mode {options.mode!r}; there is {', '.join(MODES)}")
    if options.bitdepth != 8:
        raise UsageError(f"bitdepth is {options.bitdepth}; there is 8")
    output, bits = Path(options.output), MODES[options.mode]
    suffixes = (".tflite", ".xml") if bits == "int8" else (".tflite",)
    if output.suffix.lower() not in suffixes:
        raise ExportError(
            f"with --mode {options.mode} there is {' or '.join(suffixes)}, and --output is {output}; type --output "
            f"{output.with_suffix('.tflite')}"
        )
    require_writable(output)
    # Rounding needs the weights as they were learned, and photos: a graph has neither.
    run = run_behind(load_ours(options.input), options.checkpoint_path)
    if run is None:
        raise ExportError(
            f"{options.input} was not written from a run in {options.checkpoint_path}; type --checkpoint_path, or "
            "--input, with its run"
        )
    write_output(run, output, quantize=bits)
    return 0


main = entry(
    "regraft-quantize-graph",
    quantize_graph,
    {
        "another --quantize or --min-agreement": "another --mode",
        "another --quantize": "another --mode",
        "type --photos FOLDER": "type `regraft export RUN --photos FOLDER`",
    },
)


if __name__ == "__main__":
    sys.exit(main())
