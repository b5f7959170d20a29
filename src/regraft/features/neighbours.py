"""The nearest photos by their features: exact, in blocks, and the same at each call.

In: features, or rows of unit length made of them. Out: for each query the numbers of its nearest rows, and their
similarities.
Why: which photos look like this one is asked of one photo, and of all photos of a run, with the same answer.
Surprise: similarities are computed twice. The product of two matrices in float32 is fast, but its last digits depend on
the size of a block and on the number of threads. It only finds the few rows that can be among the nearest, and these
are compared in float64, so that equal photos have equal similarities.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regraft.features.unit_roots import unit_roots

Matrix = NDArray[np.float32]
Indices = NDArray[np.int64]
Similarities = NDArray[np.float64]

_SIMILARITIES = 2**24
"""The most similarities that are in memory at a time: 64 MiB in float32."""

_ROWS = 1024
"""The number of rows that are scaled, and of pairs that are compared in float64, at a time."""

_GROUPED = 64
"""The number of similarities of which only the largest is looked at to find a bound for the nearest rows."""


def last_stage(x: Matrix, stages: Sequence[Sequence[int]]) -> Matrix:
    """Return the representation by which photos are compared: the last stage of each backbone, as unit rows.

    The last stage tells most about what a photo shows; earlier ones, about its colours and textures. Each backbone has
    the same weight in the similarity of two photos.

    Args:
        x: the features, ``(N, D)`` float32.
        stages: the number of features of each stage, for each backbone, as in `Features.stages`.

    Returns:
        ``(N, E)`` float32, the signed square roots of the last stages. The length of a row is 1, or less where a
        backbone gives a photo nothing but zeros. The product of two rows is the similarity of two photos, -1..1.

    Raises:
        ValueError: D is not the number of features of all stages.
    """
    ends = np.cumsum([sum(widths) for widths in stages]).tolist()
    if not ends or x.shape[1] != ends[-1]:
        raise ValueError(f"there are {x.shape[1]} features; wanted {ends[-1] if ends else 'at least one stage'}")
    columns = [slice(end - widths[-1], end) for end, widths in zip(ends, stages, strict=True)]
    result = np.empty((len(x), sum(widths[-1] for widths in stages)), np.float32)
    for start in range(0, len(x), _ROWS):
        rows = slice(start, start + _ROWS)
        np.concatenate([unit_roots(x[rows, part]) for part in columns], axis=1, out=result[rows])
    result /= np.float32(len(stages) ** 0.5)
    return result


def nearest(
    rows: Matrix, queries: Matrix, k: int, digests: tuple[Sequence[str], Sequence[str]] | None = None
) -> tuple[Indices, Similarities]:
    """Return the k rows that are most similar to each query, the most similar first.

    The result is exact: it equals that of comparing all pairs in float64. Rows of equal similarity are in the order of
    their numbers. Beside the result, the memory does not grow with the number of queries.

    Args:
        rows: ``(N, E)`` float32, rows of length 1 or less, such as `last_stage` returns.
        queries: ``(Q, E)`` float32, of length 1 or less.
        k: the number of rows that are wanted for each query, at least 1.
        digests: the digests of the photos of the rows (N) and of the queries (Q). If they are given, no row is returned
            for a query that has the digest of the query, so that a photo is near neither itself nor its copies.

    Returns:
        The numbers of the rows, ``(Q, k)`` int64, and their similarities, ``(Q, k)`` float64, -1..1. Where there are
        fewer than k rows for a query, the number is -1 and the similarity NaN.

    Raises:
        ValueError: the shapes do not fit, k is below 1, or a row or a query has numbers that are not finite.
    """
    if k < 1 or rows.ndim != 2 or queries.ndim != 2 or rows.shape[1] != queries.shape[1]:
        raise ValueError(f"the {k} nearest of rows {rows.shape} to queries {queries.shape} cannot be found")
    indices = np.full((len(queries), k), -1, np.int64)
    similarities = np.full((len(queries), k), np.nan)
    if not len(rows):
        return indices, similarities
    own = _numbered(*digests) if digests else None
    step = max(1, _SIMILARITIES // len(rows))
    for start in range(0, len(queries), step):
        block = slice(start, start + step)
        pairs = _candidates(rows, queries[block], k, own and (own[0], own[1][block]))
        _write_best(pairs, _similarities(rows, queries[block], pairs), indices[block], similarities[block])
    return indices, similarities


def _numbered(rows: Sequence[str], queries: Sequence[str]) -> tuple[Indices, Indices]:
    """Return a number for each digest of the rows and of the queries; equal digests have equal numbers."""
    numbers = {digest: number for number, digest in enumerate(dict.fromkeys([*rows, *queries]))}
    of_rows, of_queries = (np.array([numbers[digest] for digest in side], np.int64) for side in (rows, queries))
    return of_rows, of_queries


def _candidates(rows: Matrix, queries: Matrix, k: int, own: tuple[Indices, Indices] | None) -> Indices:
    """Return pairs of a query and a row, ``(P, 2)``: all that may be among the k nearest, and few others.

    Raises:
        ValueError: a row or a query has numbers that are not finite.
    """
    found = queries @ rows.T
    if np.isnan(found.max()):
        raise ValueError("there are rows or queries with numbers that are not finite")
    if own:
        found[own[0] == own[1][:, np.newaxis]] = -np.inf
    # A sum of E products of float32 has an error of at most E units of the last place, whatever the order of the sum,
    # and the error of the bound comes on top of that of a row.
    error = np.float32(2 * rows.shape[1] * np.finfo(np.float32).eps)
    bound = np.maximum(_bound(found, min(k, len(rows))) - error, np.finfo(np.float32).min)
    return np.stack(np.divmod(np.flatnonzero(found >= bound[:, np.newaxis]), len(rows)), axis=1)


def _bound(found: Matrix, k: int) -> Matrix:
    """Return for each row of ``found`` (B, N) a number that at least k of its values reach: ``(B,)``.

    The largest values of groups of columns are values of the row too. To sort these alone takes a tenth of the time.
    """
    count = found.shape[1] // _GROUPED
    if count >= k:
        found = found[:, : count * _GROUPED].reshape(len(found), _GROUPED, count).max(axis=1)
    place = found.shape[1] - k
    bound: Matrix = np.partition(found, place, axis=1)[:, place]
    return bound


def _similarities(rows: Matrix, queries: Matrix, pairs: Indices) -> Similarities:
    """Return the similarity of each pair of a query and a row, computed in float64: ``(P,)``.

    A similarity depends on the values of its two rows alone, and not on where they stand.
    """
    parts = [
        (queries[part[:, 0]].astype(np.float64) * rows[part[:, 1]]).sum(axis=1)
        for part in (pairs[i : i + _ROWS] for i in range(0, len(pairs), _ROWS))
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def _write_best(pairs: Indices, found: Similarities, indices: Indices, similarities: Similarities) -> None:
    """Write the most similar rows of each query into ``indices`` and ``similarities``, both (B, k)."""
    order = np.lexsort((pairs[:, 1], -found, pairs[:, 0]))
    query, row = pairs[order].T
    rank = np.arange(len(order)) - np.searchsorted(query, query)
    best = rank < indices.shape[1]
    indices[query[best], rank[best]] = row[best]
    similarities[query[best], rank[best]] = np.clip(found[order][best], -1, 1)
