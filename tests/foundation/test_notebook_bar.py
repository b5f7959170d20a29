"""Progress and figures in the kernel of a real notebook. Needs nbclient and ipykernel, which no extra has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from regraft.foundation.notebook_bar import in_notebook

PROGRESS = """
import time
from regraft.foundation import console
with console.progress("<b>extract</b>", 4) as advance:
    for _ in range(4):
        time.sleep(0.25)
        advance()
    with console.waiting_for("the <network>"):
        pass
"""
QUIET = "import logging; logging.getLogger('regraft').setLevel('ERROR')\n" + PROGRESS
FIGURE = "from regraft.drawing.figures import reliability_figure; reliability_figure([(0.9, 0.8, 5)])"


def executed(folder: Path, *sources: str) -> tuple[list[Any], list[Any]]:
    """Run cells; return the cells, and the data of all display messages."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    shown: list[Any] = []

    class Client(nbclient.NotebookClient):  # type: ignore[misc,name-defined]
        def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
            if msg["msg_type"] in ("display_data", "update_display_data"):
                shown.append(msg["content"]["data"])
            return super().process_message(msg, cell, cell_index)

    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    Client(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return notebook.cells, shown


@pytest.mark.filterwarnings("ignore")
def test_a_notebook_shows_progress_and_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    cells, shown = executed(tmp_path, PROGRESS, FIGURE, QUIET)
    texts = [data["text/html"] for data in shown]
    assert texts[0].startswith("&lt;b&gt;extract&lt;/b&gt; <progress")
    assert any('value="4" max="4"' in text for text in texts)
    assert "the &lt;network&gt;" in texts
    assert texts.count("") == 1  # the bar vanishes, and the quiet cell has none
    assert "image/png" in cells[1].outputs[0].data
    assert cells[2].outputs == []


def test_a_test_is_no_notebook() -> None:
    assert not in_notebook()
