"""Find groups of photos that show the same picture, by their features and thumbnails.

In: features, and the thumbnails that are cached beside them. Out: groups of row numbers.
Why: if a resized, mirrored or cropped copy of a test photo is in train, the test accuracy is too high.
Surprise: no fixed distance fits all data sets. Two different solar cells are nearer than a flower and its own crop.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.foundation.cache_files import read_value, write_value
from regraft.foundation.files import cache_folder, digest_json
from regraft.photos.images import THUMBNAIL, Pixels

Matrix = NDArray[np.float32]
Pairs = NDArray[np.int64]

VERSION = 2
"""A part of the cache key. Raise it when the same photos give other pairs, or when the format of the file changes."""

SAME_LOOK = 0.995
"""The correlation of thumbnails from which two photos count as the same picture, resized, recompressed or mirrored.
Such copies of flowers and solar cells had at least 0.998; different solar cells had at most 0.994."""

ALIKE_LOOK = 0.8
NEARER = 0.5
"""A photo counts as a crop of another one if the correlation of their blurred thumbnails is at least ALIKE_LOOK, and
their distance in feature space is at most NEARER times the distance to the tenth neighbour. This holds for 97 % of
flowers that are cropped by 5 %."""

_NEIGHBOURS = 10
_FEW = 2 * _NEIGHBOURS  # up to so many photos, the distance to the tenth neighbour means nothing
_PROJECTED = 128  # dimensions of the projected features
_EXACT_ROWS = 20_000  # with more photos, FAISS searches only the nearest cells of its index
_BLOCK = 4096  # rows that are computed at a time, to save memory


def duplicate_groups(
    digests: Sequence[str], x: Matrix, thumbnails: Pixels, fingerprint: str | None = None
) -> list[list[int]]:
    """Return groups of photos that show the same picture.

    Copies may be byte-equal, resized, recompressed, mirrored or slightly cropped.
    A perceptual hash (the thumbnail minus the mean of all thumbnails) finds copies of the whole picture. Features,
    which cropping hardly changes, find crops. FAISS (M. Douze et al., 2024) finds the nearest neighbours, exactly up
    to 20,000 photos.

    Args:
        digests: the content digests of N photos.
        x: the features, ``(N, D)`` float32.
        thumbnails: ``(N, 16, 16)`` uint8.
        fingerprint: the fingerprint of the backbone and the engine that computed the features. If it is given, the
            result is cached.

    Returns:
        Groups of at least two row numbers, each in ascending order. The groups are in the order of their first rows.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        rows[digest].append(index)
    distinct = sorted(rows)  # sorted, so that the result does not depend on the order of the files
    key = digest_json([VERSION, fingerprint, distinct])
    near = _cached_pairs(key) if fingerprint else None
    if near is None:
        firsts = np.array([rows[digest][0] for digest in distinct], np.int64)
        near = [(distinct[i], distinct[j]) for i, j in near_duplicates(x, thumbnails, firsts).tolist()]
        if fingerprint:
            write_value(_cache_file(key), near)
    parent = list(range(len(digests)))

    def find(i: int) -> int:  # the first row of the group of row i (union-find)
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
    """Return pairs of photos that show the same picture.

    Args:
        x: the features, ``(N, D)`` float32.
        thumbnails: ``(N, 16, 16)`` uint8.
        rows: the row numbers of the photos to compare; None for all N photos.

    Returns:
        ``(P, 2)`` int64: positions in ``rows``, the lower position first.
    """
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
    """Thumbnails as unit vectors, upright and mirrored, minus the mean of all thumbnails.

    Args:
        thumbnails: ``(N, 16, 16)`` uint8.
    """

    def __init__(self, thumbnails: Pixels) -> None:
        fine = thumbnails.astype(np.float32)
        half = THUMBNAIL // 2
        self._fine = self._vectors(fine)
        self._coarse = self._vectors(fine.reshape(-1, half, 2, half, 2).mean((2, 4)))

    @staticmethod
    def _vectors(images: NDArray[np.float32]) -> tuple[Matrix, Matrix]:
        side = images.shape[1]
        flat = images - images.mean((1, 2), keepdims=True)
        # The lower bound, a standard deviation of one grey level, keeps the noise of an even area from being scaled up.
        flat /= np.maximum(np.sqrt((flat**2).sum((1, 2), keepdims=True)), side)
        mirrored = flat[:, :, ::-1]
        shared = (flat.mean(0) + mirrored.mean(0)) / 2 * _trust(len(flat))
        turned = mirrored - shared  # a new array: `mirrored` is a view of `flat`
        flat -= shared
        return _to_unit(flat.reshape(len(flat), -1)), _to_unit(turned.reshape(len(turned), -1))

    def symmetric(self) -> Matrix:
        """Return vectors ``(N, 128)`` that are equal for a photo and its mirror image.

        The vectors of two photos are never further apart than the photos' own vectors, so that no pair is lost.
        """
        upright, turned = self._fine
        half = ((upright + turned) / 2).reshape(-1, THUMBNAIL, THUMBNAIL)[:, :, : THUMBNAIL // 2]
        return np.asarray(half.reshape(len(half), -1) * np.float32(2**0.5))  # the other half is its mirror image

    def correlation(self, pairs: Pairs, fine: bool) -> Matrix:
        """Return the correlation of each pair, upright or with one photo mirrored, whichever is higher.

        Args:
            pairs: ``(P, 2)`` row numbers.
            fine: whether to compare the 16×16 thumbnails; otherwise blurred ones of 8×8.

        Returns:
            ``(P,)`` float32, -1 to 1.
        """
        upright, turned = self._fine if fine else self._coarse
        return _in_blocks(
            pairs,
            lambda i, j: np.maximum((upright[i] * upright[j]).sum(1), (upright[i] * turned[j]).sum(1)),
        )


class _FeatureSpace:
    """The directions of features from their mean.

    No copy of ``x`` is made, since the features of 100,000 photos take 0.7 GB.

    Args:
        x: the features, ``(N, D)`` float32.
        rows: the row numbers of the photos to compare.
    """

    def __init__(self, x: Matrix, rows: Pairs) -> None:
        self._x, self._rows = x, rows
        self._mean = x.mean(axis=0, dtype=np.float64).astype(np.float32) * _trust(len(rows))
        self._lengths = np.concatenate([np.linalg.norm(self._block(b), axis=1) for b in _blocks(len(rows))])
        self._lengths = np.maximum(self._lengths, 1e-6)

    def _block(self, numbers: Any) -> Matrix:
        result: Matrix = self._x[self._rows[numbers]] - self._mean
        return result

    def projected(self) -> Matrix:
        """Return the directions, projected at random to ``(rows, 128)`` float32.

        Such a projection keeps distances to about 6 % (W. B. Johnson, J. Lindenstrauss, 1984).
        """
        dice = np.random.default_rng(0)
        basis = dice.standard_normal((self._x.shape[1], _PROJECTED), np.float32) / np.float32(np.sqrt(_PROJECTED))
        parts = [self._block(b) @ basis / self._lengths[b, np.newaxis] for b in _blocks(len(self._rows))]
        return np.concatenate(parts)

    def distance(self, pairs: Pairs) -> Matrix:
        """Return the distance between the directions of each pair, ``(P,)`` float32, 0 to 2."""

        def cosine(i: Pairs, j: Pairs) -> Matrix:
            return np.asarray((self._block(i) * self._block(j)).sum(1) / (self._lengths[i] * self._lengths[j]))

        return np.sqrt(np.maximum(2 - 2 * _in_blocks(pairs, cosine), 0))


def _neighbours(vectors: Matrix) -> tuple[Pairs, Matrix]:
    """Find the ten nearest neighbours of each row.

    Args:
        vectors: ``(N, D)`` float32.

    Returns:
        The pairs of neighbours ``(P, 2)``, lower number first, and the distance of each row to its tenth neighbour,
        ``(N,)``.
    """
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
    """Scale vectors ``(N, D)`` in place to length 1; vectors shorter than 0.1 are mostly noise, and scaled by 10."""
    for block in _blocks(len(vectors)):
        vectors[block] /= np.maximum(np.linalg.norm(vectors[block], axis=1, keepdims=True), 0.1)
    return vectors


def _trust(count: int) -> np.float32:
    """Return the weight, 0 to 1, of the mean of ``count`` photos: the mean of few photos says little about others."""
    return np.float32(count / (count + 20))


def _blocks(count: int) -> list[slice]:
    return [slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]


def _in_blocks(pairs: Pairs, measure: Any) -> Matrix:
    parts = [measure(pairs[b, 0], pairs[b, 1]) for b in _blocks(len(pairs))]
    return np.concatenate(parts).astype(np.float32) if parts else np.empty(0, np.float32)
