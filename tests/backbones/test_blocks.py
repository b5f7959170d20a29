"""Blocks found in the graph, and the upper part of a network equal to the network itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regraft.backbones.base import load_backbone
from regraft.backbones.blocks import blocks, joined, pooled_maps, upper
from regraft.backbones.tuned_weights import write_weights
from regraft.errors import BackboneError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras' own, on OpenVINO


def network(name: str) -> Any:
    return load_backbone(name, 96, weights="" if name.startswith("embedded") else "none").keras_model()


def computed(model: Any, x: Any) -> Any:
    import keras

    return np.asarray(keras.ops.convert_to_numpy(model(x, training=False)))


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        # inputs of inverted residuals that end in an addition, or begin a new width
        ("embedded:efficientnet_lite0", [6, 6, 6, 3, 3, 3, 3]),
        ("keras:mobilenet_v2", [6, 6, 6, 3, 3, 3]),
        ("keras:mobilenet", [6, 6, 6, 6, 7, 3]),  # a chain: the places before its depthwise convolutions
    ],
)
def test_blocks_are_found_in_the_graph(name: str, sides: list[int]) -> None:
    assert [int(cut.shape[1]) for cut in blocks(network(name))][-len(sides) :] == sides


def test_an_addition_and_its_activation_are_one_place() -> None:
    cuts = blocks(network("keras:resnet50"))
    assert len(cuts) == 16
    assert cuts[-1].shape[1:] == (3, 3, 2048)


@pytest.mark.parametrize(
    "name",
    [
        "embedded:efficientnet_lite0",
        pytest.param("keras:mobilenet", marks=pytest.mark.slow),
        pytest.param("keras:mobilenet_v3_small", marks=pytest.mark.slow),
    ],
)
def test_the_upper_part_is_the_network_and_goes_back_into_it(name: str) -> None:
    import keras

    whole = network(name)
    dice = np.random.default_rng(0)
    for layer in whole.layers:  # random weights have batch normalisation that does nothing
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([(v + dice.uniform(0.1, 0.5, v.shape)).astype(np.float32) for v in layer.get_weights()])
    photo = dice.normal(size=(1, 96, 96, 3)).astype(np.float32)
    expected = computed(whole, photo)
    cut = blocks(whole)[-3]
    part = upper(whole, cut, "frozen", bf16=False)
    found = computed(part.model, computed(keras.Model(whole.inputs[0], cut), photo))
    assert found.shape[1] + part.kept == expected.shape[1]
    assert np.abs(found - expected[:, part.kept :]).max() <= 1e-4 * np.abs(expected).max()

    before = [np.array(v) for v in whole.get_weights()]
    for _, trained, _ in part.layers:
        for variable in trained.trainable_variables:
            variable.assign(variable.numpy() * np.float32(1.5))
    part.write_back()
    changed = {i for i, (a, b) in enumerate(zip(before, whole.get_weights(), strict=True)) if not np.array_equal(a, b)}
    ours = {id(v) for original, _, _ in part.layers for v in original.variables}
    wanted = {i for i, v in enumerate(whole.variables) if id(v) in ours}
    assert changed <= wanted  # all others keep their bits
    assert changed
    norms = [layer for layer in whole.layers if type(layer).__name__ == "BatchNormalization"]
    frozen = {id(variable) for norm in norms for variable in norm.variables}
    assert not any(id(whole.variables[i]) in frozen for i in changed)
    after = computed(whole, photo)
    again = computed(part.model, computed(keras.Model(whole.inputs[0], cut), photo))
    assert np.abs(again - after[:, part.kept :]).max() <= 1e-3 * np.abs(after).max()


@pytest.mark.parametrize(
    ("name", "count", "changed"),
    [
        ("embedded:efficientnet_lite0", 5, 1472),  # two of five stages
        ("embedded:efficientnet_lite0", 1, 1280),  # the 192 channels of stage 6 are those at which the block begins
        pytest.param("keras:mobilenet_v2", 2, 1280, marks=pytest.mark.slow),
        pytest.param("keras:resnet50", 2, 2048, marks=pytest.mark.slow),
    ],
)
def test_fine_tuned_features_stand_beside_the_frozen_ones(name: str, count: int, changed: int) -> None:
    frozen, tuned = network(name), network(name)
    dice = np.random.default_rng(0)
    for _, trained, _ in (part := upper(tuned, blocks(tuned)[-count], "frozen", bf16=False)).layers:
        for variable in trained.trainable_variables:
            variable.assign(variable.numpy() * dice.uniform(0.5, 1.5, variable.shape).astype(np.float32))
    part.write_back()
    both = joined(frozen, tuned, count)
    photo = dice.normal(size=(1, 96, 96, 3)).astype(np.float32)
    first, second = computed(frozen, photo), computed(tuned, photo)
    expected = np.concatenate([first, second[:, part.kept :]], axis=1)
    np.testing.assert_allclose(computed(both, photo), expected, atol=1e-5 * np.abs(expected).max())
    assert both.outputs[0].shape[1] - first.shape[1] == second.shape[1] - part.kept == changed
    assert sum(both.regraft_stages.values()) == expected.shape[1]
    below = sum(len(op.weights) for op in tuned.layers) - sum(
        len(op.weights) for op in both.layers if "tuned_" in op.name
    )
    assert len(both.weights) == len(frozen.weights) + len(tuned.weights) - below  # what lies below is there once


@pytest.mark.parametrize("wrong", ["0", "17", "many"])
def test_blocks_beside_which_there_are_none(wrong: str, tmp_path: Path) -> None:
    whole = network("embedded:efficientnet_lite0")
    write_weights(whole, [], tmp_path / "w")
    backbone = load_backbone("efficientnet_lite0", 96, tuned=str(tmp_path / "w"), beside=wrong)
    with pytest.raises(BackboneError, match="blocks"):
        backbone.keras_model()


def test_a_network_without_maps_has_no_blocks() -> None:
    import keras

    photo = keras.Input((8, 8, 3))
    with pytest.raises(BackboneError, match="no blocks to thaw"):
        pooled_maps(keras.Model(photo, keras.layers.Dense(4)(keras.layers.Flatten()(photo))))
