from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from regraft.backbones.base import load_backbone
from regraft.distributed.recipes import EngineRecipe
from regraft.engines.base import EngineOptions
from regraft.engines.openvino import OpenVinoEngine
from regraft.errors import BackboneError


@pytest.mark.parametrize("precision", ["f32", None])
def test_a_recipe_travels_and_makes_the_same_engine(precision: str | None, cache: Path) -> None:
    engine = OpenVinoEngine(load_backbone("efficientnet_lite0", 192, stages="last"), precision)  # type: ignore[arg-type]
    recipe = pickle.loads(pickle.dumps(EngineRecipe.of(engine)))
    made = recipe.make()
    assert (made.fingerprint, made.precision) == (engine.fingerprint, engine.precision)
    assert made.backbone.options == engine.backbone.options


def test_a_node_with_other_features_refuses(cache: Path) -> None:
    recipe = EngineRecipe.of(OpenVinoEngine(load_backbone("efficientnet_lite0"), "f32"))
    with pytest.raises(BackboneError, match="would compute other features of embedded:efficientnet_lite0 in fp32"):
        replace(recipe, fingerprint="0" * 64).make()


def test_int8_stays_on_one_machine(cache: Path) -> None:
    class Int8(OpenVinoEngine):
        precision = "int8"

    with pytest.raises(BackboneError, match="int8 is computed on one machine; leave ray out"):
        EngineRecipe.of(Int8.of(load_backbone("efficientnet_lite0"), EngineOptions()))


def test_an_engine_without_a_name_is_refused(cache: Path) -> None:
    class Other(OpenVinoEngine):
        pass

    with pytest.raises(BackboneError, match="Other is no engine"):
        EngineRecipe.of(Other(load_backbone("efficientnet_lite0"), "f32"))
