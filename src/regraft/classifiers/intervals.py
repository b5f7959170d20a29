"""Confidence intervals of shares and of their differences, and tests whether two shares differ."""

from __future__ import annotations

import math

Z = 1.959963984540054  # the 97.5th percentile of the standard normal distribution, for 95 % intervals


def wilson_interval(right: float, n: int, design: float = 1.0) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share, which is valid also near 0 and 1 (E. B. Wilson, 1927).

    Args:
        right: the number of photos that count, from 0 to ``n``; for the mean of numbers between 0 and 1, their sum.
        n: the number of photos, at least 1.
        design: the design effect: how many times as large the variance of the share is as that of ``n`` independent
            photos (L. Kish, Survey Sampling, 1965).
    """
    size = n / design
    share, correction = right / n, Z * Z / size
    centre = (share + correction / 2) / (1 + correction)
    half = Z * math.sqrt(share * (1 - share) / size + correction / (4 * size)) / (1 + correction)
    return max(0.0, centre - half), min(1.0, centre + half)


def difference_interval(
    before: tuple[float, int], after: tuple[float, int], designs: tuple[float, float] = (1.0, 1.0)
) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two shares of different photos, after minus before.

    The method is that of R. Newcombe, Interval estimation for the difference between independent proportions (1998),
    number 10, which puts together the Wilson score intervals of both shares.

    Args:
        before: the number of photos that count, and the number of all photos, at least 1.
        after: the same of the other photos.
        designs: the design effect of each share; see `wilson_interval`.
    """
    low, high = wilson_interval(*before, designs[0])
    new_low, new_high = wilson_interval(*after, designs[1])
    share, new_share = before[0] / before[1], after[0] / after[1]
    down, up = math.hypot(new_share - new_low, high - share), math.hypot(new_high - new_share, share - low)
    return new_share - share - down, new_share - share + up


def difference_test(
    before: tuple[float, int], after: tuple[float, int], designs: tuple[float, float] = (1.0, 1.0)
) -> float:
    """Return the two-sided p value of the test whether two shares of different photos are equal.

    It is the chi-squared test with the continuity correction of F. Yates, Contingency tables involving small numbers
    and the chi-squared test (1934), by which it is rather too careful. The arguments are those of
    `difference_interval`.
    """
    sizes = before[1] / designs[0], after[1] / designs[1]
    shares, inverse = (before[0] / before[1], after[0] / after[1]), 1 / sizes[0] + 1 / sizes[1]
    pooled = (shares[0] * sizes[0] + shares[1] * sizes[1]) / sum(sizes)
    variance = pooled * (1 - pooled) * inverse
    beyond = max(0.0, abs(shares[1] - shares[0]) - inverse / 2)
    return math.erfc(beyond / math.sqrt(2 * variance)) if variance > 0 else 1.0


def f1_interval(hits: int, labelled: int, predicted: int, design: float = 1.0) -> tuple[float, float]:
    """Return the 95 % interval of the F1 of a class.

    Of the photos that have the class as label or as prediction, the share ``j`` of those that have it as both (the
    Jaccard index) is a share of photos, which has a Wilson score interval. F1 is ``2 j / (1 + j)``, which rises with
    ``j``, so that the ends of its interval follow.

    Args:
        hits: the number of photos that have the class as label and as prediction.
        labelled: the number of photos that have it as label, at least 1.
        predicted: the number of photos that have it as prediction.
        design: the design effect; see `wilson_interval`.
    """
    low, high = wilson_interval(hits, labelled + predicted - hits, design)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def paired_interval(gained: int, lost: int, n: int) -> tuple[float, float]:
    """Return the 95 % score interval for the difference of two shares of the same ``n`` photos.

    The method is that of T. Tango, Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design (1998). This interval is valid also where hardly any photo changed, where the usual interval
    has almost no width.

    Args:
        gained: the number of photos that count only after the change.
        lost: the number of photos that count only before the change.
        n: the number of all photos, at least 1.
    """

    def score(difference: float) -> float:
        """Return the distance, in standard errors, of the observed difference above ``difference``.

        The result falls as ``difference`` rises.
        """
        b = -gained - lost + (2 * n - gained + lost) * difference
        c = -lost * difference * (1 - difference)
        likeliest_lost = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * likeliest_lost + difference * (1 - difference))
        above = gained - lost - n * difference
        return above / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, above) if above else 0.0

    def where(wanted: float) -> float:
        """Return the difference whose score is ``wanted``, by bisection."""
        low, high = -1.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if score(middle) > wanted else (low, middle)
        return (low + high) / 2

    return where(Z), where(-Z)


def mcnemar(gained: int, lost: int) -> float:
    """Return the two-sided p value of McNemar's exact test: how often chance alone splits the changes so unevenly.

    The method is that of Q. McNemar, Note on the sampling error of the difference between correlated proportions or
    percentages (1947), with the binomial distribution in place of its approximation.

    Args:
        gained: the number of photos that count only after the change.
        lost: the number of photos that count only before the change.
    """
    changed, fewer = gained + lost, min(gained, lost)
    ways = [math.lgamma(changed + 1) - math.lgamma(i + 1) - math.lgamma(changed - i + 1) for i in range(fewer + 1)]
    return min(1.0, 2 * sum(math.exp(way - changed * math.log(2)) for way in ways))
