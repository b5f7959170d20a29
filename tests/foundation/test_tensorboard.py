from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regraft.foundation.tensorboard import EventFile, read_scalars

accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def test_tensorboards_own_reader_gets_the_curves(tmp_path: Path) -> None:
    file = EventFile(tmp_path / "train")
    file.hyperparameters({"salt": "가", "val": 0.1, "odd": None})
    for step in (1, 2):
        file.scalars(step, {"accuracy": step / 10, "cross_entropy": math.nan})
    file.close()
    events = accumulators.EventAccumulator(str(tmp_path / "train")).Reload()
    assert [(e.step, round(e.value, 6)) for e in events.Scalars("accuracy")] == [(1, 0.1), (2, 0.2)]
    assert events.Tags()["scalars"] == ["accuracy"]
    assert "_hparams_/session_start_info" in events.summary_metadata


def test_tensorboards_own_reader_gets_histograms(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    file.histograms(3, {"blocks/kernel": np.arange(30, dtype=np.float32)})
    file.close()
    (found,) = accumulators.EventAccumulator(str(tmp_path)).Reload().Tensors("blocks/kernel")
    assert found.step == 3
    table = pytest.importorskip("tensorboard.util.tensor_util").make_ndarray(found.tensor_proto)
    assert table.shape == (30, 3)
    assert table[:, 2].sum() == 30
    assert (table[0, 0], table[-1, 1]) == (0, 29)


def test_tensorboards_own_reader_gets_the_network(tmp_path: Path) -> None:
    import keras

    photo = keras.Input((8, 8, 3), name="photo")
    network = keras.Model(photo, keras.layers.Conv2D(2, 3, name="eyes")(photo))
    file = EventFile(tmp_path)
    file.graph(network.to_json())
    file.close()
    graph = accumulators.EventAccumulator(str(tmp_path)).Reload().Graph()
    assert [node.name.rpartition("/")[2] for node in graph.node] == ["photo", "eyes"]


def test_tensorboards_own_reader_gets_images(tmp_path: Path) -> None:
    data = BytesIO()
    Image.new("RGB", (7, 5), "red").save(data, "PNG")
    file = EventFile(tmp_path)
    file.images(2, {"confusion matrix": data.getvalue()})
    file.close()
    (found,) = accumulators.EventAccumulator(str(tmp_path)).Reload().Images("confusion matrix")
    assert (found.step, found.width, found.height, found.encoded_image_string) == (2, 7, 5, data.getvalue())


def test_curves_are_read_again_up_to_where_the_file_is_cut_off(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    for step in (1, 2, 3):
        file.scalars(step, {"accuracy": step / 4, "loss": math.nan if step == 2 else step})
    file.close()
    assert read_scalars(tmp_path) == {"accuracy": [(1, 0.25), (2, 0.5), (3, 0.75)], "loss": [(1, 1.0), (3, 3.0)]}
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    assert read_scalars(tmp_path)["accuracy"] == [(1, 0.25), (2, 0.5)]
    path.write_bytes(b"\xff" * 100)
    assert read_scalars(tmp_path) == {}
    assert read_scalars(tmp_path / "nothing") == {}
