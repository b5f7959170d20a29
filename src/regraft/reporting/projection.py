"""Features → a map: each photo as a point in two dimensions, near to the photos that look like it.

In: unit rows (N, E), such as `last_stage` returns. Out: points (N, 2) in 0..1, and the name of the method.
Why: on a map one sees which classes overlap, which photos lie alone, and how many kinds of a class there are.
Surprise: distances between far points of t-SNE mean nothing. Without openTSNE the map is that of the two principal
components, which crowds many classes.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.foundation.files import threads

_COMPONENTS = 50
"""The number of principal components from which t-SNE computes its map: L. van der Maaten and G. Hinton, 2008, took 30.
Further components of our features hold little but noise, and cost time."""

_PERPLEXITY = 30
_START = 1e-4  # the standard deviation of the points before the first step: near to each other, they can still move
_FEWEST = 50
"""The smallest number of photos for which t-SNE is used. Of 12 to 30 photos that were all about as far from each other
it drew one point in many trials, as each was a neighbour of all others; of 40 and more it did not."""

_COLLAPSED = 1e-2
"""The width of a map of t-SNE, of which a useful one is wider than 1, below which it is taken for one point."""


def project(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], str]:
    """Return a point (N, 2) for each row (N, E), each coordinate in 0..1, and the name of the method.

    The same rows give the same points on the same machine. The method is t-SNE from principal components where openTSNE
    is installed and there are enough photos that differ, else the two first principal components alone.
    """
    components = _principal(rows, _COMPONENTS)
    if len(rows) >= _FEWEST and find_spec("openTSNE") is not None:
        points = _tsne(components)
        if np.ptp(points, axis=0).max() > _COLLAPSED:
            return _in_square(points), "t-SNE"
    return _in_square(components[:, :2]), "PCA"


def _principal(rows: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return the first principal components (N, at least 2 and at most ``count``) of rows (N, E)."""
    centred = rows - rows.mean(axis=0)
    directions = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, : max(2, min(count, len(rows) - 1))]
    directions = directions * np.where(directions.sum(axis=0) < 0, np.float32(-1), np.float32(1))  # a direction has two
    result: NDArray[np.float32] = centred @ directions
    if result.shape[1] < 2:
        result = np.pad(result, ((0, 0), (0, 2 - result.shape[1])))
    return result


def _tsne(components: NDArray[np.float32]) -> Any:
    """Return the map (N, 2) of t-SNE, from the exact nearest neighbours of principal components (N, P)."""
    import faiss
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    points = np.ascontiguousarray(components)
    perplexity = min(_PERPLEXITY, (len(points) - 1) // 3)
    index: Any = faiss.IndexFlatL2(points.shape[1])
    index.add(points)
    squared, found = index.search(points, 3 * perplexity + 1)
    own = found != np.arange(len(points))[:, np.newaxis]
    own[own.all(axis=1), -1] = False  # a photo with many equal ones is not always among its own nearest
    shape = (len(points), found.shape[1] - 1)
    distances = np.sqrt(np.maximum(squared, 0))
    knn = PrecomputedNeighbors(found[own].reshape(shape), distances[own].reshape(shape))
    affinities = PerplexityBasedNN(knn_index=knn, perplexity=perplexity, n_jobs=threads())
    start = points[:, :2] * (_START / max(float(points[:, 0].std()), 1e-9))
    embedding = TSNEEmbedding(start, affinities, n_jobs=threads(), random_state=0)
    embedding.optimize(250, exaggeration=12, momentum=0.5, inplace=True)
    embedding.optimize(400, momentum=0.8, inplace=True)
    return np.asarray(embedding)


def _in_square(points: Any) -> NDArray[np.float32]:
    """Return points (N, 2), moved and scaled by one factor so that all coordinates are in 0..1."""
    low, high = points.min(axis=0), points.max(axis=0)
    widest = max(float((high - low).max()), 1e-9)
    result: NDArray[np.float32] = ((points - (low + high) / 2) / widest + 0.5).astype(np.float32)
    return result
