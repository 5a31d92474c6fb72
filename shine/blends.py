"""Which sources lie so close that the solver must step them together."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree


def find_blends(position: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Number the blends: two sources are in one if their discs, or a chain of discs, touch.

    `position` (n, d) and `radius` (n,) are in one unit. Returns (n,) int32 numbers from 0, at most
    n different ones.
    """
    n = len(position)
    if n == 0:
        return np.zeros(0, np.int32)
    pairs = cKDTree(position).query_pairs(2.0 * radius.max(), output_type="ndarray")
    first, second = pairs[:, 0], pairs[:, 1]
    distance = np.linalg.norm(position[first] - position[second], axis=1)
    touch = distance < radius[first] + radius[second]
    links = coo_array((np.ones(touch.sum()), (first[touch], second[touch])), shape=(n, n))
    return connected_components(links, directed=False)[1].astype(np.int32)
