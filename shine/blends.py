"""Which sources are fitted and sampled together, and drawn on one stamp."""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

# Each count of members is a program of its own to compile.
BLEND_SIZES = (1, 2, 4, 8)
MOST_MEMBERS = BLEND_SIZES[-1]


class Blends(NamedTuple):
    """A partition of n sources into blends."""

    members: np.ndarray  # (b, MOST_MEMBERS) int32 rows of the sources, ascending; -1 where none
    divided: np.ndarray  # (n,) bool, whether a neighbour that touches is in another blend

    @property
    def count(self) -> np.ndarray:
        """(b,) members of each blend."""
        return (self.members >= 0).sum(axis=1)

    @property
    def slots(self) -> np.ndarray:
        """(b,) the next of `BLEND_SIZES` to the members of each blend."""
        return np.array(BLEND_SIZES)[np.searchsorted(BLEND_SIZES, self.count)]

    def rows(self) -> list[np.ndarray]:
        """The sources of each blend."""
        return [row[row >= 0] for row in self.members]

    @property
    def blend(self) -> np.ndarray:
        """(n,) the blend that each source belongs to."""
        number = np.empty(len(self.divided), np.int32)
        rows, columns = np.nonzero(self.members >= 0)
        number[self.members[rows, columns]] = rows
        return number


def find_blends(position: np.ndarray, radius: np.ndarray, widest: float = np.inf) -> Blends:
    """Join sources whose discs touch, the nearest pairs (in units of their radii) first.

    `position` (n, d) and `radius` (n,) are in one unit. A blend has at most `MOST_MEMBERS` members
    and its discs fit into a circle of radius `widest`: chains longer than that are divided at their
    weakest links. Blends are numbered by their first source.
    """
    n = len(position)
    first, second, closeness = _touching(position, radius)
    home = np.arange(n)
    members = {i: [i] for i in range(n)}
    for k in np.argsort(closeness, kind="stable"):
        a, b = sorted((home[first[k]], home[second[k]]))
        if a == b or len(members[a]) + len(members[b]) > MOST_MEMBERS:
            continue
        joined = sorted(members[a] + members[b])
        if enclosing_circle(position[joined], radius[joined])[1] > widest:
            continue
        members[a] = joined
        for i in members.pop(b):
            home[i] = a
    table = np.full((len(members), MOST_MEMBERS), -1, np.int32)
    for row, key in enumerate(sorted(members, key=lambda key: members[key][0])):
        table[row, : len(members[key])] = members[key]
    divided = np.zeros(n, bool)
    apart = home[first] != home[second]
    divided[first[apart]] = divided[second[apart]] = True
    return Blends(table, divided)


def enclosing_circle(position: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre (d,) and radius of a circle around discs: centred on the box that holds them."""
    low = (position - radius[:, None]).min(axis=0)
    high = (position + radius[:, None]).max(axis=0)
    centre = 0.5 * (low + high) if len(position) > 1 else position[0]
    return centre, float((np.linalg.norm(position - centre, axis=1) + radius).max())


def _touching(
    position: np.ndarray, radius: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs whose discs touch, and their distance over the sum of their radii."""
    if len(position) < 2:
        none = np.zeros(0, int)
        return none, none, np.zeros(0)
    pairs = cKDTree(position).query_pairs(2.0 * radius.max(), output_type="ndarray")
    first, second = pairs[np.lexsort(pairs.T[::-1])].T
    distance = np.linalg.norm(position[first] - position[second], axis=1)
    reach = radius[first] + radius[second]
    closeness = np.divide(distance, reach, out=np.zeros_like(distance), where=reach > 0.0)
    touch = (distance < reach) | (distance == 0.0)
    return first[touch], second[touch], closeness[touch]
