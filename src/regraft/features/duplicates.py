"""Find groups of photos that show the same picture, by their features and thumbnails.

In: features, and the thumbnails that are cached beside them. Out: groups of row numbers.
Why: if a resized, mirrored or cropped copy of a test photo is in train, the test accuracy is too high.
Surprise: no fixed distance fits all data sets. Two different solar cells are nearer than a flower and its own crop.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regraft.foundation.cache_files import read_value, write_value
from regraft.foundation.files import cache_folder, digest_json
from regraft.foundation.large_arrays import blocks_of, take
from regraft.photos.images import THUMBNAIL, Pixels

Matrix = NDArray[np.float32]
Pairs = NDArray[np.int64]

VERSION = 3
"""A part of the cache key. Raise it when the same photos give other pairs, or when the format of the file changes."""

SAME_LOOK = 0.995
"""The correlation of thumbnails from which two photos count as the same picture, resized, recompressed or mirrored.
Such copies of flowers and solar cells had at least 0.998; different solar cells had at most 0.994."""

ALIKE_LOOK = 0.8
NEARER = 0.5
"""A photo counts as a crop of another one if the correlation of their blurred thumbnails is at least ALIKE_LOOK, and
their distance in feature space is at most NEARER times the distance to the tenth neighbour. This holds for 97 % of
flowers that are cropped by 5 %."""

_SAME_DISTANCE = 1.05 * (2 - 2 * SAME_LOOK) ** 0.5
"""The largest distance of the vectors of two thumbnails that look the same, and 5 % for the errors of float32."""

_MARGIN = 1.5
"""Distances of projected features err by about 6 %: photos further apart than this times NEARER are no copies."""

_NEIGHBOURS = 10
_FEW = 2 * _NEIGHBOURS  # up to so many photos, the distance to the tenth neighbour means nothing
_PROJECTED = 128  # dimensions of the projected features
_EXACT_DISTANCES = 20_000**2  # with more distances, FAISS searches only the nearest cells of its index
_CELL_ROWS = (
    64  # rows of each cell from which FAISS learns where the cells are; more are seconds, and find no more copies
)
_BLOCK = 4096  # rows that are computed at a time, to save memory


def duplicate_groups(
    digests: Sequence[str],
    x: Matrix,
    thumbnails: Pixels,
    fingerprint: str | None = None,
    known: Collection[str] = (),
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
        known: the digests of photos that were compared with each other before, such as those of an older run. Where
            that result is still in the cache, only the other photos are compared with all.

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
        before = _cached_pairs(digest_json([VERSION, fingerprint, sorted(known)])) if fingerprint and known else None
        old = frozenset() if before is None else frozenset(known)
        new = np.flatnonzero([digest not in old for digest in distinct])
        found = near_duplicates(x, thumbnails, firsts, new)
        near = [(a, b) for a, b in before or () if a in rows and b in rows]
        near += [(distinct[i], distinct[j]) for i, j in found.tolist()]
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


def near_duplicates(x: Matrix, thumbnails: Pixels, rows: Pairs | None = None, new: Pairs | None = None) -> Pairs:
    """Return pairs of photos that show the same picture.

    Args:
        x: the features, ``(N, D)`` float32.
        thumbnails: ``(N, 16, 16)`` uint8.
        rows: the row numbers of the photos to compare; None for all N photos.
        new: positions in ``rows``, ascending: only pairs with one of these photos are looked for; None for all pairs.

    Returns:
        ``(P, 2)`` int64: positions in ``rows``, the lower position first.
    """
    rows = np.arange(len(x)) if rows is None else rows
    new = np.arange(len(rows)) if new is None else new
    if len(rows) < 2 or not len(new):
        return np.empty((0, 2), np.int64)
    looks = _Looks(thumbnails[rows])
    pairs = _Neighbours(looks.symmetric(), len(new)).of(new).pairs(_SAME_DISTANCE)
    same = pairs[looks.correlation(pairs, fine=True) >= SAME_LOOK]
    if len(rows) <= _FEW:
        return _unique(same, len(rows))
    space = _FeatureSpace(x, rows)
    neighbours = _Neighbours(space.projected(), len(new))
    found = neighbours.of(new)
    candidates = found.pairs(_MARGIN * NEARER * found.tenth)
    candidates = candidates[looks.correlation(candidates, fine=False) >= ALIKE_LOOK]
    tenth = np.full(len(rows), np.nan, np.float32)
    tenth[new] = found.tenth
    others = np.unique(candidates[np.isnan(tenth[candidates])])
    tenth[others] = neighbours.of(others).tenth
    reach = np.minimum(tenth[candidates[:, 0]], tenth[candidates[:, 1]])
    return _unique(np.concatenate([same, candidates[space.distance(candidates) <= NEARER * reach]]), len(rows))


class _Looks:
    """Thumbnails as unit vectors, upright and mirrored, minus the mean of all thumbnails.

    The vectors are computed when they are needed, as those of a million photos would take gigabytes.

    Args:
        thumbnails: ``(N, 16, 16)`` uint8.
    """

    def __init__(self, thumbnails: Pixels) -> None:
        self._thumbnails = thumbnails
        self._shared = {fine: self._mean(fine) for fine in (True, False)}

    def _mean(self, fine: bool) -> NDArray[np.float32]:
        """Return the mean of all thumbnails and their mirror images, which is subtracted from each."""
        total = sum(self._flat(block, fine).sum(0, dtype=np.float64) for block in _blocks(len(self._thumbnails)))
        mean = np.asarray(total / len(self._thumbnails), np.float32)
        return np.asarray((mean + mean[:, ::-1]) / 2 * _trust(len(self._thumbnails)))

    def _flat(self, rows: Any, fine: bool) -> NDArray[np.float32]:
        """Return thumbnails ``(n, 16, 16)``, or ``(n, 8, 8)`` if not ``fine``, minus their own mean and of length 1."""
        images = self._thumbnails[rows].astype(np.float32)
        if not fine:
            images = images.reshape(-1, THUMBNAIL // 2, 2, THUMBNAIL // 2, 2).mean((2, 4))
        images -= images.mean((1, 2), keepdims=True)
        # The lower bound, a standard deviation of one grey level, keeps the noise of an even area from being scaled up.
        images /= np.maximum(np.sqrt((images**2).sum((1, 2), keepdims=True)), images.shape[1])
        return np.asarray(images)

    def _vectors(self, rows: Any, fine: bool) -> NDArray[np.float32]:
        """Return the vectors of thumbnails as images, ``(n, 16, 16)``, or ``(n, 8, 8)`` if not ``fine``."""
        images = self._flat(rows, fine)
        images -= self._shared[fine]
        return _to_unit(images.reshape(len(images), -1)).reshape(images.shape)

    def symmetric(self) -> Matrix:
        """Return vectors ``(N, 128)`` that are equal for a photo and its mirror image.

        The vectors of two photos are never further apart than the photos' own vectors, so that no pair is lost.
        """
        result = np.empty((len(self._thumbnails), THUMBNAIL * THUMBNAIL // 2), np.float32)
        for block in _blocks(len(result)):
            images = self._vectors(block, fine=True)
            half = (images[:, :, : THUMBNAIL // 2] + images[:, :, : THUMBNAIL // 2 - 1 : -1]) / 2
            result[block] = half.reshape(len(half), -1) * np.float32(2**0.5)  # the other half is its mirror image
        return result

    def correlation(self, pairs: Pairs, fine: bool) -> Matrix:
        """Return the correlation of each pair, upright or with one photo mirrored, whichever is higher.

        Args:
            pairs: ``(P, 2)`` row numbers.
            fine: whether to compare the 16×16 thumbnails; otherwise blurred ones of 8×8.

        Returns:
            ``(P,)`` float32, -1 to 1.
        """

        def of(i: Pairs, j: Pairs) -> Matrix:
            one, other = self._vectors(i, fine), self._vectors(j, fine)
            return np.asarray(np.maximum((one * other).sum((1, 2)), (one * other[:, :, ::-1]).sum((1, 2))))

        return _in_blocks(pairs, of)


class _FeatureSpace:
    """The directions of features from their mean.

    No copy of ``x`` is made, since the features of 100,000 photos take 0.7 GB.

    Args:
        x: the features, ``(N, D)`` float32.
        rows: the row numbers of the photos to compare.
    """

    def __init__(self, x: Matrix, rows: Pairs) -> None:
        self._x, self._rows = x, rows
        total = sum(part.sum(axis=0, dtype=np.float64) for _, part in blocks_of(x))
        self._mean = (total / len(x)).astype(np.float32) * _trust(len(rows))
        self._lengths = np.concatenate([np.linalg.norm(self._block(b), axis=1) for b in _blocks(len(rows))])
        self._lengths = np.maximum(self._lengths, 1e-6)

    def _block(self, numbers: Any) -> Matrix:
        result: Matrix = take(self._x, self._rows[numbers])
        result -= self._mean
        return result

    def projected(self) -> Matrix:
        """Return the directions, projected at random to ``(rows, 128)`` float32.

        Such a projection keeps distances to about 6 % (W. B. Johnson, J. Lindenstrauss, 1984).
        """
        dice = np.random.default_rng(0)
        basis = dice.standard_normal((self._x.shape[1], _PROJECTED), np.float32) / np.float32(np.sqrt(_PROJECTED))
        result = np.empty((len(self._rows), _PROJECTED), np.float32)
        for block in _blocks(len(result)):
            result[block] = self._block(block) @ basis / self._lengths[block, np.newaxis]
        return result

    def distance(self, pairs: Pairs) -> Matrix:
        """Return the distance between the directions of each pair, ``(P,)`` float32, 0 to 2."""

        def cosine(i: Pairs, j: Pairs) -> Matrix:
            return np.asarray((self._block(i) * self._block(j)).sum(1) / (self._lengths[i] * self._lengths[j]))

        return np.sqrt(np.maximum(2 - 2 * _in_blocks(pairs, cosine), 0))


class _Neighbours:
    """The ten nearest neighbours of rows.

    Args:
        vectors: ``(N, D)`` float32.
        queries: about the number of rows whose neighbours will be asked for.
    """

    def __init__(self, vectors: Matrix, queries: int) -> None:
        import faiss

        self._vectors = np.ascontiguousarray(vectors)
        count, width = vectors.shape
        self._index: Any = faiss.IndexFlatL2(width)
        if count * queries > _EXACT_DISTANCES:
            self._index = faiss.IndexIVFFlat(self._index, width, 2 * int(np.sqrt(count)))
            self._index.nprobe = 8
            self._index.cp.max_points_per_centroid = _CELL_ROWS
            self._index.train(self._vectors)
        self._index.add(self._vectors)

    def of(self, rows: Pairs) -> _Nearest:
        """Return the neighbours of the rows with these numbers (Q,)."""
        count = len(self._vectors)
        if not len(rows):
            return _Nearest(rows, np.empty((0, 1), np.int64), np.empty((0, 1), np.float32))
        squared, found = self._index.search(self._vectors[rows], min(_NEIGHBOURS + 1, count))
        return _Nearest(rows, found, np.sqrt(np.maximum(np.where(found >= 0, squared, 0), 0)))


class _Nearest(NamedTuple):
    """The neighbours of Q rows among N, the nearest first; a row is a neighbour of itself.

    Attributes:
        rows: the numbers of the rows, (Q,).
        found: the numbers of their neighbours, (Q, 11); negative where there are fewer.
        distances: the distances, (Q, 11); 0 where there are fewer.
    """

    rows: Pairs
    found: Pairs
    distances: Matrix

    @property
    def tenth(self) -> Matrix:
        """The distance of each row to its tenth neighbour, (Q,)."""
        result: Matrix = self.distances.max(axis=1)
        return result

    def pairs(self, within: float | Matrix) -> Pairs:
        """Return the pairs of a row and a neighbour at most ``within`` (Q,) away, lower number first, each once."""
        own = np.broadcast_to(self.rows[:, np.newaxis], self.found.shape)
        limits = np.broadcast_to(np.reshape(within, (-1, 1)), self.found.shape)
        near = (self.found >= 0) & (self.found != own) & (self.distances <= limits)
        pairs = np.stack([np.minimum(own, self.found)[near], np.maximum(own, self.found)[near]], axis=1)
        return _unique(pairs, int(max(self.rows.max(initial=0), self.found.max(initial=0))) + 1)


def _unique(pairs: Pairs, count: int) -> Pairs:
    """Return pairs of row numbers below ``count``, ``(P, 2)``, each once and in ascending order."""
    return np.stack(np.divmod(np.unique(pairs[:, 0] * count + pairs[:, 1]), count), axis=1)


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
