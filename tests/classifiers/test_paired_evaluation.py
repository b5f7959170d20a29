"""Paired differences against a published figure and against their definition; what they are in words."""

from __future__ import annotations

import math

import numpy as np
import pytest

from regraft.classifiers.intervals import mcnemar, paired_interval, wilson_interval
from regraft.classifiers.paired_evaluation import pair


def likeliest_score(gained: int, lost: int, n: int, difference: float) -> float:
    """Tango's statistic from its definition: the share lost that is likeliest under ``difference`` is searched for."""
    lowest, highest = max(0.0, -difference), (1 - difference) / 2
    shares = np.linspace(lowest + 1e-9, highest - 1e-9, 200_001)
    same = n - gained - lost
    likelihood = (
        gained * np.log(shares + difference) + lost * np.log(shares) + same * np.log(1 - 2 * shares - difference)
    )
    share = float(shares[np.nanargmax(likelihood)])
    return (gained - lost - n * difference) / float(np.sqrt(n * (2 * share + difference - difference**2)))


@pytest.mark.parametrize(("gained", "lost", "n"), [(1, 7, 21), (40, 20, 160), (12, 3, 60), (5, 5, 40)])
def test_a_paired_interval_ends_where_the_score_says(gained: int, lost: int, n: int) -> None:
    low, high = paired_interval(gained, lost, n)
    assert low < (gained - lost) / n < high
    assert likeliest_score(gained, lost, n, low) == pytest.approx(1.96, abs=1e-3)
    assert likeliest_score(gained, lost, n, high) == pytest.approx(-1.96, abs=1e-3)


def test_a_paired_interval_is_that_of_the_literature() -> None:
    """Airway responsiveness before and after a transplantation (L. Bentur et al., 2009), as computed by
    M. W. Fagerland et al., Recommended tests and confidence intervals for paired binomial proportions (2014)."""
    assert paired_interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 7), (12, 3), (5, 5), (400, 380)])
def test_mcnemar_is_the_binomial_test_of_the_changes(gained: int, lost: int) -> None:
    changed = gained + lost
    tail = sum(math.comb(changed, i) for i in range(min(gained, lost) + 1))
    assert mcnemar(gained, lost) == pytest.approx(min(1.0, 2 * tail / 2**changed))


def test_a_paired_interval_holds_at_its_ends() -> None:
    low, high = paired_interval(0, 0, 30)
    assert low == pytest.approx(-high)
    assert high == pytest.approx(wilson_interval(0, 30)[1])
    assert paired_interval(30, 0, 30)[1] == pytest.approx(1.0)
    found = pair(np.array([True, True, False, False]), np.array([True, False, True, True]))
    assert (found.n, found.gained, found.lost, found.difference) == (4, 2, 1, 0.25)
