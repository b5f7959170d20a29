"""The out-of-fold answers of a run: to each photo, the answer of a classifier that was not trained on it.

In: fold numbers, probabilities and novelty of all photos. Out: a file in the run folder, and back.
Why: everything that looks at mistakes, suspected labels and calibration needs answers that were not learned by heart.
Surprise: the rows are in the order of the run's train side in ``split.json``, and after it of its val side, where a
fine-tuned run has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.classifiers.predictor import Answers
from regraft.classifiers.run_folder import LAYOUT
from regraft.errors import RunError, option
from regraft.foundation.documents import MEBIBYTE, mended, read_tensors, write_tensors
from regraft.heads.base import array_of

_MOST = 2048 * MEBIBYTE


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Out-of-fold answers to N photos.

    Attributes:
        fold: the number of the fold in which each photo was held out, (N,) int64; negative for a photo that was in no
            fold, whose row of the answers is NaN.
        answers: the answers to the photos, from classifiers that were not trained on the photo's fold. All novelty is
            NaN where there were too few photos to fit it.
    """

    fold: NDArray[np.int64]
    answers: Answers

    def write(self, folder: Path) -> None:
        """Write the answers into a run folder that is being made."""
        inside = self.fold >= 0
        probabilities = np.where(inside[:, np.newaxis], self.answers.probabilities, np.float32(0))
        arrays: dict[str, NDArray[Any]] = {"fold": self.fold, "probabilities": probabilities}
        if not np.isnan(self.answers.novelty[inside]).any():  # files of tensors hold finite numbers alone
            arrays["novelty"] = np.where(inside, self.answers.novelty, np.float32(0))
        write_tensors(folder / LAYOUT.held_out, arrays)

    @classmethod
    def read(cls, folder: Path, classes: int) -> HeldOut:
        """Read the answers of a run with ``classes`` classes. Raises RunError if they are missing or damaged."""
        path = folder / LAYOUT.held_out
        if not path.exists():
            raise RunError(f"{folder} has no out-of-fold answers; train it with {option('folds', '5')}")
        with mended(RunError, "train the run again, or take a whole copy of it"):
            state = read_tensors(path, _MOST)
        try:
            fold = array_of(state, "fold", (None,), np.int64)
            probabilities = array_of(state, "probabilities", (len(fold), classes))
            nothing = np.full(len(fold), np.nan, np.float32)
            novelty = array_of({"novelty": nothing, **state}, "novelty", (len(fold),))
        except (KeyError, ValueError) as error:
            raise RunError(f"{path} is damaged: {error}; train the run again") from error
        outside = fold < 0
        probabilities[outside], novelty[outside] = np.nan, np.nan
        return cls(fold, Answers(probabilities, novelty))
