"""Features and thumbnails → groups of photos that show the same picture.

In: features, and the thumbnails kept beside them. Out: groups of row numbers.
Why: a test photo whose resized, mirrored or cropped copy was trained on measures memory, not learning.
Surprise: how alike is alike depends on the photos: solar cells that differ are nearer than a flower's own crop.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft._cache import read_value, write_value
from regraft._files import cache_folder, digest_json
from regraft.images import THUMBNAIL, Pixels

Matrix = NDArray[np.float32]
Pairs = NDArray[np.int64]

VERSION = 2
"""Part of the cache's key: to be raised when the same photos would give other pairs, or are written otherwise."""

SAME_LOOK = 0.995
"""Correlation of thumbnails from which two photos are one resized, recompressed or mirrored: those had 0.998 and more
on flowers and solar cells, distinct solar cells up to 0.994."""

ALIKE_LOOK = 0.8
NEARER = 0.5
"""A photo cut at the edges keeps its blurred look (a correlation of ALIKE_LOOK) and lies at most half as far away in
feature space as the tenth neighbour does: 97 % of flowers cut by 5 % do."""

_NEIGHBOURS = 10
_FEW = 2 * _NEIGHBOURS  # below, a tenth neighbour says nothing
_PROJECTED = 128
_EXACT_ROWS = 20_000  # above, an index that looks only into the nearest of its cells
_BLOCK = 4096


def duplicate_groups(
    digests: Sequence[str], x: Matrix, thumbnails: Pixels, fingerprint: str | None = None
) -> list[list[int]]:
    """Groups of rows that show the same picture: byte-equal, resized, recompressed, mirrored, or cut a little.

    A perceptual hash (the thumbnail, less what all thumbnails share) finds copies of the whole picture; features,
    which cropping hardly changes, find parts of it. Neighbours are looked up with FAISS (M. Douze et al., 2024),
    exactly up to 20,000 photos.

    Args:
        digests: N content digests.
        x: ``(N, D)`` float32 features.
        thumbnails: ``(N, 16, 16)`` uint8.
        fingerprint: of what computed the features; with it, the answer is cached for the same photos.

    Returns:
        Groups of two and more, each ascending, in order of their first members.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        rows[digest].append(index)
    distinct = sorted(rows)  # the order of the files must not matter
    key = digest_json([VERSION, fingerprint, distinct])
    near = _cached_pairs(key) if fingerprint else None
    if near is None:
        firsts = np.array([rows[digest][0] for digest in distinct], np.int64)
        near = [(distinct[i], distinct[j]) for i, j in near_duplicates(x, thumbnails, firsts).tolist()]
        if fingerprint:
            write_value(_cache_file(key), near)
    parent = list(range(len(digests)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    equal = [(same[0], other) for same in rows.values() for other in same[1:]]
    for i, j in [*equal, *((rows[a][0], rows[b][0]) for a, b in near)]:
        one, other = find(i), find(j)
        parent[max(one, other)] = min(one, other)
    groups: dict[int, list[int]] = defaultdict(list)
    for index in range(len(digests)):
        groups[find(index)].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _cache_file(key: str) -> Path:
    return cache_folder("duplicates") / f"{key[:32]}.json"


def _cached_pairs(key: str) -> list[tuple[str, str]] | None:
    pairs = read_value(_cache_file(key))
    return None if pairs is None else [(a, b) for a, b in pairs]


def near_duplicates(x: Matrix, thumbnails: Pixels, rows: Pairs | None = None) -> Pairs:
    """Pairs (P, 2), lower number first, of numbers into ``rows`` (all, by default) that show the same picture."""
    rows = np.arange(len(x)) if rows is None else rows
    if len(rows) < 2:
        return np.empty((0, 2), np.int64)
    looks = _Looks(thumbnails[rows])
    pairs = _neighbours(looks.symmetric())[0]
    same = pairs[looks.correlation(pairs, fine=True) >= SAME_LOOK]
    if len(rows) <= _FEW:
        return _unique(same)
    space = _FeatureSpace(x, rows)
    candidates, tenth = _neighbours(space.projected())
    candidates = candidates[looks.correlation(candidates, fine=False) >= ALIKE_LOOK]
    reach = np.minimum(tenth[candidates[:, 0]], tenth[candidates[:, 1]])
    return _unique(np.concatenate([same, candidates[space.distance(candidates) <= NEARER * reach]]))


class _Looks:
    """Thumbnails as unit vectors, upright and mirrored, less what they all share."""

    def __init__(self, thumbnails: Pixels) -> None:
        fine = thumbnails.astype(np.float32)
        half = THUMBNAIL // 2
        self._fine = self._vectors(fine)
        self._coarse = self._vectors(fine.reshape(-1, half, 2, half, 2).mean((2, 4)))

    @staticmethod
    def _vectors(images: NDArray[np.float32]) -> tuple[Matrix, Matrix]:
        side = images.shape[1]
        flat = images - images.mean((1, 2), keepdims=True)
        # The floor, a spread of one grey level, keeps the noise of an even area from being a look.
        flat /= np.maximum(np.sqrt((flat**2).sum((1, 2), keepdims=True)), side)
        mirrored = flat[:, :, ::-1]
        shared = (flat.mean(0) + mirrored.mean(0)) / 2 * _trust(len(flat))
        turned = mirrored - shared  # a new array: `mirrored` is a view of `flat`
        flat -= shared
        return _to_unit(flat.reshape(len(flat), -1)), _to_unit(turned.reshape(len(turned), -1))

    def symmetric(self) -> Matrix:
        """What a mirror does not change, (N, 128): never further apart than the photos themselves are."""
        upright, turned = self._fine
        half = ((upright + turned) / 2).reshape(-1, THUMBNAIL, THUMBNAIL)[:, :, : THUMBNAIL // 2]
        return np.asarray(half.reshape(len(half), -1) * np.float32(2**0.5))  # the other half is the same

    def correlation(self, pairs: Pairs, fine: bool) -> Matrix:
        """Of each pair, in the orientation in which they agree more."""
        upright, turned = self._fine if fine else self._coarse
        return _in_blocks(
            pairs,
            lambda i, j: np.maximum((upright[i] * upright[j]).sum(1), (upright[i] * turned[j]).sum(1)),
        )


class _FeatureSpace:
    """Directions of features from their mean. Nothing of the size of ``x`` is made: 100,000 photos have 0.7 GB."""

    def __init__(self, x: Matrix, rows: Pairs) -> None:
        self._x, self._rows = x, rows
        self._mean = x.mean(axis=0, dtype=np.float64).astype(np.float32) * _trust(len(rows))
        self._lengths = np.concatenate([np.linalg.norm(self._block(b), axis=1) for b in _blocks(len(rows))])
        self._lengths = np.maximum(self._lengths, 1e-6)

    def _block(self, numbers: Any) -> Matrix:
        result: Matrix = self._x[self._rows[numbers]] - self._mean
        return result

    def projected(self) -> Matrix:
        """(N, 128): distances hold to about 6 % under a random projection (W. B. Johnson, J. Lindenstrauss, 1984)."""
        dice = np.random.default_rng(0)
        basis = dice.standard_normal((self._x.shape[1], _PROJECTED), np.float32) / np.float32(np.sqrt(_PROJECTED))
        parts = [self._block(b) @ basis / self._lengths[b, np.newaxis] for b in _blocks(len(self._rows))]
        return np.concatenate(parts)

    def distance(self, pairs: Pairs) -> Matrix:
        """Between the directions of each pair, 0 to 2."""

        def cosine(i: Pairs, j: Pairs) -> Matrix:
            return np.asarray((self._block(i) * self._block(j)).sum(1) / (self._lengths[i] * self._lengths[j]))

        return np.sqrt(np.maximum(2 - 2 * _in_blocks(pairs, cosine), 0))


def _neighbours(vectors: Matrix) -> tuple[Pairs, Matrix]:
    """Pairs of neighbours, lower number first, and each row's distance to its tenth."""
    import faiss

    count, width = vectors.shape
    vectors = np.ascontiguousarray(vectors)
    index: Any = faiss.IndexFlatL2(width)
    if count > _EXACT_ROWS:
        index = faiss.IndexIVFFlat(index, width, 2 * int(np.sqrt(count)))
        index.nprobe = 8
        index.train(vectors)
    index.add(vectors)
    squared, found = index.search(vectors, min(_NEIGHBOURS + 1, count))
    own = np.broadcast_to(np.arange(count)[:, np.newaxis], found.shape)
    real = (found >= 0) & (found != own)
    pairs = np.stack([np.minimum(own, found)[real], np.maximum(own, found)[real]], axis=1)
    return _unique(pairs), np.sqrt(np.maximum(np.where(found >= 0, squared, 0).max(axis=1), 0))


def _unique(pairs: Pairs) -> Pairs:
    return np.unique(pairs, axis=0) if len(pairs) else pairs


def _to_unit(vectors: Matrix) -> Matrix:
    """Scale vectors (N, D) in place to length 1, those shorter than 0.1 by 10: they would be noise."""
    for block in _blocks(len(vectors)):
        vectors[block] /= np.maximum(np.linalg.norm(vectors[block], axis=1, keepdims=True), 0.1)
    return vectors


def _trust(count: int) -> np.float32:
    """How far the mean of so few may be taken for what all share."""
    return np.float32(count / (count + 20))


def _blocks(count: int) -> list[slice]:
    return [slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]


def _in_blocks(pairs: Pairs, measure: Any) -> Matrix:
    parts = [measure(pairs[b, 0], pairs[b, 1]) for b in _blocks(len(pairs))]
    return np.concatenate(parts).astype(np.float32) if parts else np.empty(0, np.float32)
