"""The protocol of every predictor, the answers of a predictor, and the one loop that answers many photos.

In: photos, as paths, bytes, pixels, folders or records. Out: `Answers`: probabilities and novelty.
Why: a run, an export and a foreign graph have the same methods, so that all other code works with each of them.
Surprise: a photo that cannot be read has a row of NaN, so that row i always belongs to photo i.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from regraft.errors import ImageError
from regraft.photos.images import Problem
from regraft.photos.unlabelled import Found, Photo, path_of, photos_in


class Answers(NamedTuple):
    """The answers of a predictor to N photos.

    Attributes:
        probabilities: ``(N, C)`` float32, each row summing to 1; a row of NaN where the photo cannot be read.
        novelty: ``(N,)`` float32, how unlike all training photos each photo is; NaN where the novelty is not known.
    """

    probabilities: NDArray[np.float32]
    novelty: NDArray[np.float32]


class Predictor(Protocol):
    """Anything that gives photos class probabilities: a classifier, an export. Several threads may ask it at once."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, in the order of the columns of probabilities."""
        ...

    @property
    def temperature(self) -> float:
        """The temperature: the number by which the logits are divided before the softmax."""
        ...

    @property
    def threshold(self) -> float | None:
        """The novelty above which the answer is "none of these"; None for never."""
        ...

    def predict_proba(self, images: Any, on_problem: Callable[[Problem], None] | None = None) -> NDArray[np.float32]:
        """Return class probabilities ``(N, C)``.

        Args:
            images: the photos, as `photos_in` takes them: one or several paths, bytes, Pillow images, RGB pixels, a
                folder, or a data set.
            on_problem: called with each photo that cannot be read; the row of such a photo is NaN.

        Raises:
            DataError: ``images`` are no photos.
            ImageError: a photo cannot be read and there is no ``on_problem``.
        """
        ...

    def answers(self, images: Any, on_problem: Callable[[Problem], None] | None = None) -> Answers:
        """Return class probabilities ``(N, C)`` and novelty ``(N,)``; arguments and errors as in `predict_proba`."""
        ...


Answered = Iterator[tuple[int | Sequence[int], Answers | str]]
"""The indices of photos with their answers, or the index of one photo with the reason why it cannot be read."""


def answer_all(
    images: Photo | Iterable[Photo],
    classes: int,
    answer: Callable[[Sequence[Found]], Answered],
    on_problem: Callable[[Problem], None] | None = None,
) -> Answers:
    """Answer many photos. Every predictor implements its ``answers`` method with this function.

    Args:
        images: the photos, as `photos_in` takes them.
        classes: C, the number of classes.
        answer: the predictor's own function, which answers a list of photos in any order.
        on_problem: called with each photo that cannot be read.

    Returns:
        The answers, row i to photo i; rows of photos that cannot be read are NaN.

    Raises:
        DataError: ``images`` are no photos.
        ImageError: a photo cannot be read and there is no ``on_problem``.
    """
    photos = list(photos_in(images))
    found = Answers(np.full((len(photos), classes), np.nan, np.float32), np.full(len(photos), np.nan, np.float32))
    for at, answered in answer(photos):
        if isinstance(answered, Answers):
            found.probabilities[at], found.novelty[at] = answered
            continue
        index = at if isinstance(at, int) else at[0]
        problem = Problem(path_of(photos[index], index), answered)
        if on_problem is None:
            raise ImageError(f"{problem.path}: {problem.reason}")
        on_problem(problem)
    return found
