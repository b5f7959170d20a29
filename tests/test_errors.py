from __future__ import annotations

import inspect

from regraft import errors


def test_the_docstring_draws_the_tree_that_is_there() -> None:
    classes = {n: c for n, c in vars(errors).items() if inspect.isclass(c) and c.__module__ == errors.__name__}
    assert errors.__doc__ is not None
    for name, cls in classes.items():
        assert name in errors.__doc__
        assert issubclass(cls, errors.RegraftError)
    assert issubclass(errors.ImageError, errors.DataError)
