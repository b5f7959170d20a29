"""Do exports answer as their runs do, how large are they and how fast? Every format of each run, in a table.

Needs the extras litert, onnx and tensorflow. The photos of the runs must be where they were.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from _common import report

from regraft import ExportConfig, export
from regraft.errors import RegraftError
from regraft.foundation.files import cache_folder

FORMATS = (
    ("litert", ""),
    ("litert", "fp16"),
    ("litert", "int8-weights"),
    ("litert", "int8"),
    ("onnx", ""),
    ("openvino", ""),
    ("openvino", "fp16"),
    ("saved-model", ""),
    ("keras", ""),
    ("graph-def", ""),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for run in options.runs:
            for name_of, quantize in FORMATS:
                row: dict[str, Any] = {"run": Path(run).name, "format": f"{name_of} {quantize}".strip()}
                try:
                    made = export(
                        run, Path(name) / f"{Path(run).name}-{name_of}-{quantize}", ExportConfig(name_of, quantize)
                    )
                except RegraftError as error:
                    rows.append({**row, "refused": str(error)})
                    continue
                found = made.comparison
                rows.append(
                    {
                        **row,
                        "MB": round(made.bytes / 1e6, 1),
                        "agreement": round(100 * found.agreement, 1),
                        "difference": float(f"{found.difference:.1e}"),
                        "accuracy": round(100 * found.accuracy, 1),
                        "of the run": round(100 * found.run_accuracy, 1),
                        "plain": [round(100 * found.plain[0], 1), round(100 * found.plain[1], 1), found.plain[2]],
                        "none of these": found.rejected,
                        "ms": found.ms,
                        "MiB": found.mebibytes,
                        "n": found.n,
                    }
                )
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    report(rows=rows, cache=str(cache_folder()))


if __name__ == "__main__":
    main()
