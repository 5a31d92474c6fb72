"""Fields of a survey: what lies near each other shares a map.

Maps are equal-area (ZEA, Calabretta and Greisen 2002, section 5.1.7), east to the left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from constellation.sphere import Floats, TangentPlane

LINK_DEG = 1.5  # tiles nearer than this lie in one field
FILLED = 0.9  # of the distance between neighbours, by the longest whisker
_STEP = 1e-4  # rad, to see which way a direction goes on the map


def group_near(centres: Floats) -> list[NDArray[np.int64]]:
    """Places of the unit vectors (n, 3) that form a field, for each; the largest field first."""
    tree = cKDTree(centres)
    near = tree.sparse_distance_matrix(tree, 2.0 * np.sin(np.deg2rad(LINK_DEG) / 2.0))
    labels = connected_components(near, directed=False)[1]
    groups = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    return sorted(groups, key=lambda group: -len(group))


@dataclass(frozen=True)
class Field:
    """A part of the sky with a map of its own: its tiles, and places (n,) of its sub-tiles."""

    tile_ids: list[int]
    places: np.ndarray
    plane: TangentPlane
    name: str

    def project(self, vectors: Floats) -> Floats:
        """Map positions (..., 2) of unit vectors (..., 3), deg: to the west and to the north."""
        scale = np.sqrt(2.0 / np.maximum(1.0 + vectors @ self.plane.centre, 1e-12))
        sides = np.stack([-(vectors @ self.plane.east), vectors @ self.plane.north], axis=-1)
        return np.rad2deg(sides * scale[..., None])

    def directions(self, vectors: Floats, angle: Floats) -> Floats:
        """Unit vectors (n, 2) on the map of angles (n,) from the local west towards north, rad."""
        flat = np.hypot(vectors[:, 0], vectors[:, 1])
        west = np.stack([vectors[:, 1], -vectors[:, 0], np.zeros_like(flat)], -1) / flat[:, None]
        north = np.cross(west, vectors)
        along = np.cos(angle)[:, None] * west + np.sin(angle)[:, None] * north
        there = vectors + _STEP * along
        there /= np.linalg.norm(there, axis=-1, keepdims=True)
        moved = self.project(there) - self.project(vectors)
        return moved / np.linalg.norm(moved, axis=-1, keepdims=True)


@dataclass(frozen=True)
class Points:
    """Values (n, k) at unit vectors (n, 3) of a field; the first two are a shear or the like."""

    field: Field
    vectors: Floats
    values: Floats
    what: str  # they belong to

    @property
    def positions(self) -> Floats:
        """On the map (n, 2), deg."""
        return self.field.project(self.vectors)

    @cached_property
    def spacing_deg(self) -> float:
        """Typical distance between neighbours; of a single one, the side of a usual sub-tile."""
        if len(self.vectors) < 2:
            return 0.125
        return float(np.median(cKDTree(self.positions).query(self.positions, k=2)[0][:, 1]))

    def whiskers(self, largest: float) -> tuple[Floats, Floats]:
        """Both ends (n, 2) of lines, deg; one of the size `largest` nearly reaches a neighbour."""
        one, two = self.values[:, 0], self.values[:, 1]
        # g1 > 0 is east-west, g2 > 0 along west = north
        angle = np.nan_to_num(0.5 * np.arctan2(two, one))
        length = FILLED * self.spacing_deg * np.hypot(one, two) / largest
        half = 0.5 * length[:, None] * self.field.directions(self.vectors, angle)
        return self.positions - half, self.positions + half
