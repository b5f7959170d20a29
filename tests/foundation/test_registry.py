from __future__ import annotations

import pytest

from regraft.errors import ConfigError
from regraft.foundation.registry import Registry


def test_a_name_is_imported_on_first_use_and_cannot_be_taken_twice() -> None:
    registry: Registry[type] = Registry("thing")
    registry.register("ordered", "collections:OrderedDict")
    assert registry.load("ordered").__name__ == "OrderedDict"
    with pytest.raises(ValueError, match="registered twice"):
        registry.register("ordered", "collections:Counter")


def test_an_unknown_name_gets_the_nearest_spelling() -> None:
    registry: Registry[type] = Registry("thing")
    registry.register("logistic", "collections:OrderedDict")
    with pytest.raises(ConfigError, match=r"unknown thing 'logistik': did you mean 'logistic'\?"):
        registry.load("logistik")
