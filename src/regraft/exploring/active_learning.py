"""Which photos teach a classifier most once they have labels: active learning.

In: the probabilities that a classifier gives to unlabelled photos, or their features alone. Out: the numbers of the
photos to label, the most valuable first.
Why: a label of a photo whose class is plain already teaches little, and so does the second of two similar photos.
Surprise: the most uncertain photos alone are often similar to each other. So three times as many are looked at, and one
of each group is taken (benchmarks/README.md has the methods that were measured).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Indices = NDArray[np.int64]

_SHORTLIST = 3
"""So many times the wanted number of photos, the most uncertain ones, are grouped by their features."""

_MOST_GROUPS = 1000
"""The largest number of groups, for each of which one pass over the photos computes a distance."""

_ITERATIONS = 20
"""The number of steps of k-means."""

_NEIGHBOURS = 21
"""The number of nearest photos, itself among them, to which a typical photo is similar."""

_MOST_COMPARED = 1000
"""The largest number of photos of a cluster that are compared with each other, which bounds the memory to 4 MB."""


def margins(probabilities: Matrix) -> Matrix:
    """Return the difference of the two largest probabilities of each photo, 0 to 1: small where it is uncertain.

    Source: T. Scheffer et al., Active Hidden Markov Models for Information Extraction, 2001.

    Args:
        probabilities: ``(N, C)``, of at least two classes.
    """
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    result: Matrix = two[:, 1] - two[:, 0]
    return result


def most_uncertain(probabilities: Matrix, rows: Callable[[Indices], Matrix], n: int) -> Indices:
    """Return the photos of which a classifier is least certain, and which differ from each other.

    The 3 n photos with the smallest margins are put into n groups by k-means, and the one with the smallest margin is
    taken of each group. This is close to G. Citovsky et al., Batch Active Learning at Scale, 2021.

    Args:
        probabilities: ``(N, C)``, of at least two classes.
        rows: a function that returns the representations ``(M, E)`` float32 of M photos by their numbers.
        n: the number of photos that are wanted, at least 1.

    Returns:
        The numbers of n photos, or of all N if there are fewer; those with the smallest margin first.
    """
    margin = margins(probabilities)
    shortlist = np.argsort(margin, kind="stable")[: _SHORTLIST * n]
    if len(shortlist) <= n:
        return shortlist
    chosen = _in_turn(_members(_group(rows(shortlist), n)), n)
    return shortlist[np.sort(chosen)]  # a lower place in the shortlist is a smaller margin


def most_typical(rows: Matrix, n: int) -> Indices:
    """Return photos that together show what there is: the most typical photo of each of n clusters.

    A photo is typical of its cluster (k-means) where it is similar to its 20 nearest photos there. The method is that
    of G. Hacohen et al., Active Learning on a Budget (2022).

    Args:
        rows: the representations of the photos, ``(N, E)`` float32, of length 1 or less.
        n: the number of photos that are wanted, at least 1.

    Returns:
        The numbers of n photos, or of all N if there are fewer; those of large clusters first.
    """
    clusters = _members(_group(rows, n))
    ranked = (members[np.argsort(-_typicality(rows, members), kind="stable")] for members in clusters)
    return _in_turn(sorted(ranked, key=len, reverse=True), n)


def _typicality(rows: Matrix, members: Indices) -> Matrix:
    """Return the mean similarity (M,) of the M photos of a cluster to their nearest ones there.

    Of a large cluster, every so many photos alone are looked at, and all others have a typicality of -1.
    """
    some = slice(None, None, -(-len(members) // _MOST_COMPARED))
    looked = rows[members[some]]
    count = min(_NEIGHBOURS, len(looked))
    result = np.full(len(members), -1, np.float32)
    result[some] = np.partition(looked @ looked.T, len(looked) - count, axis=1)[:, -count:].mean(axis=1)
    return result


def _group(rows: Matrix, n: int) -> Indices:
    """Return for each row ``(N, E)`` the number of its cluster (N,), of at most n clusters."""
    import faiss

    rows = np.ascontiguousarray(rows)
    count = min(n, _MOST_GROUPS, len(rows))
    found: Any = faiss.Kmeans(rows.shape[1], count, niter=_ITERATIONS, seed=1, min_points_per_centroid=1)
    found.train(rows)
    group: Indices = found.index.search(rows, 1)[1][:, 0]
    return group


def _members(group: Indices) -> list[Indices]:
    """Return the row numbers of each cluster, ascending, without clusters that are empty."""
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)


def _in_turn(groups: Iterable[Indices], n: int) -> Indices:
    """Return n numbers, or all: the first of each group, then the second of each, and so on."""
    rounds = zip_longest(*(members.tolist() for members in groups))
    return np.array([number for number in chain.from_iterable(rounds) if number is not None][:n], np.int64)
