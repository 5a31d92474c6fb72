"""Convex polygons on the sphere, many at a time: which of them overlap an area or hold a source.

Two convex polygons, each within a hemisphere, have no point in common exactly if the great circle
of a side of one of them has that polygon on one side and the other polygon strictly beyond it. (Of
all planes through the origin that part the two cones, the extreme ones are the sides of the convex
hull of one polygon and the other's antipode. At most two sides of that hull join the two; the hull
has an inside, so that it has a further side, which is one of a polygon.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from lsst import sphgeom

from constellation.tiling import Flags, Floats, Integers

# Of a triple product of unit vectors, several units in the last place: a side of 3.4 arcmin then
# counts as 0.4 micro-arcsec further out, so that no overlap is missed by rounding.
ROUNDING = 2e-15


@dataclass(frozen=True)
class Polygons:
    """Convex spherical polygons smaller than a hemisphere: unit vectors (n, k, 3) of their corners.

    The corners are in order, either way round. Of a polygon that is not convex some sides count for
    nothing: it is then taken for a larger one.
    """

    corners: Floats

    def __getitem__(self, rows: Integers | Flags) -> Polygons:
        """Some of the polygons."""
        return Polygons(self.corners[rows])

    @cached_property
    def circles(self) -> tuple[Floats, Floats]:
        """Centres (n, 3) and radii (n,) in radian of circles around the polygons."""
        centres = self.corners.sum(axis=1)
        centres /= np.linalg.norm(centres, axis=-1, keepdims=True)
        chords = np.linalg.norm(self.corners - centres[:, None], axis=-1).max(axis=1)
        return centres, 2.0 * np.arcsin(np.clip(chords / 2.0, 0.0, 1.0)) + 1e-12

    @cached_property
    def normals(self) -> Floats:
        """Normals (n, k, 3) of the sides, inward, as long as the sines of their lengths.

        Zero for a side that has its own polygon on both sides.
        """
        # with the difference, for a product of near vectors loses digits
        nexts = np.roll(self.corners, -1, axis=1)
        normals = np.cross(self.corners, nexts - self.corners)
        heights = normals @ np.swapaxes(self.corners, 1, 2)
        left = (heights >= -ROUNDING).all(axis=2)
        right = (heights <= ROUNDING).all(axis=2)
        return normals * (left.astype(float) - right)[..., None]

    def near(self, centre: Floats, radius_rad: float) -> Integers:
        """Numbers of the polygons whose circles reach a circle about the unit vector (3,)."""
        centres, radii = self.circles
        chords = np.linalg.norm(centres - centre, axis=-1)
        distances = 2.0 * np.arcsin(np.clip(chords / 2.0, 0.0, 1.0))
        return np.flatnonzero(distances <= radii + radius_rad)

    def overlapping(self, area: Floats) -> Integers:
        """Numbers of the polygons that have a point in common with a convex one of corners (k, 3).

        Exact but for polygons that are less than `ROUNDING` apart, which count as touching.
        """
        one = Polygons(area[None])
        # not just for speed: an area on the other side of the sphere lies beyond no side
        [centre], [radius_rad] = one.circles
        rows = self.near(centre, radius_rad)
        beyond_area = _all_below(self.corners[rows] @ one.normals[0].T, axis=1)
        beyond_polygon = _all_below(self.normals[rows] @ area.T, axis=2)
        return rows[~(beyond_area.any(axis=1) | beyond_polygon.any(axis=1))]

    def holding(self, vectors: Floats, margin_rad: float = 0.0) -> Flags:
        """Which polygons hold which of the unit vectors (m, 3), or miss it by so little: (n, m)."""
        lengths = np.linalg.norm(self.normals, axis=-1, keepdims=True)
        units = np.divide(
            self.normals, lengths, out=np.zeros_like(self.normals), where=lengths > 0.0
        )
        # side by side: of a thousand polygons and sources all at once would take too much memory
        inside = np.ones((len(units), len(vectors)), dtype=bool)
        for side in range(units.shape[1]):
            inside &= units[:, side] @ vectors.T >= -np.sin(margin_rad) - 1e-12
        centres, radii = self.circles
        return inside & (centres @ vectors.T >= np.cos(radii + 2.0 * margin_rad)[:, None] - 1e-12)


def _all_below(heights: Floats, axis: int) -> Flags:
    return (heights < -ROUNDING).all(axis=axis)


def convex_polygon(corners: Floats) -> sphgeom.ConvexPolygon:
    """The convex spherical polygon around unit vectors (n, 3)."""
    return sphgeom.ConvexPolygon.convexHull([sphgeom.UnitVector3d(*corner) for corner in corners])
