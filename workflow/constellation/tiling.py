"""Tiles and sub-tiles on the sphere: every source is core in exactly one sub-tile.

A source belongs to the tile whose official core holds it, to the one with the lowest index where
several do; where none does, or the tile list has no cores, to the tile with the nearest centre.
Within the tile, sub-tiles are the cells of an R x C grid over the 30 arcmin core, in the plane
tangent at the tile's centre (xi east, eta north; rows grow with eta, columns with xi). The outer
cells take in whatever the tile owns beyond the grid. Every border (of cells, and between tiles) is
a great circle, so "within the margin of" is the exact angular distance to great circles. Only an
official core has another border: it lies in a box of great circles.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from constellation.sphere import (
    RADIANS_PER_ARCMIN,
    Flags,
    Floats,
    Integers,
    TangentPlane,
    on_plane,
    unit_vectors,
)
from constellation.tile_cores import NOBODY, CoreRanges, TileCores, outlines
from shine.errors import InputError

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

CORE_SIZE_ARCMIN = 30.0
OUTLINE_STEPS = 8  # the sides of a HEALPix cell are curved: points on each
BULGE_RAD = 0.1 / 60.0 * RADIANS_PER_ARCMIN  # more than they bulge between the points
ROUNDING_RAD = 1e-12  # so that a core source is in its extended area even with no margin
# a tile's sources lie within half a degree of its centre; this bounds a degenerate tile list
MAX_REACH_DEG = 2.0
MAX_REACH = float(np.tan(np.deg2rad(MAX_REACH_DEG)))
WIDE_RAD = np.deg2rad(20.0)  # where most of a list is near, all of it is taken, once


@dataclass(frozen=True)
class Tiles:
    """A list of tiles, sorted by index, whatever the order it was given in.

    `index` int64 (n,), `ra` and `dec` of the centres in degrees (n,); `cores` if they are known.
    """

    index: Integers
    ra: Floats
    dec: Floats
    cores: TileCores | None = None

    @classmethod
    def from_columns(
        cls, index: Iterable[int], ra: ArrayLike, dec: ArrayLike, cores: TileCores | None = None
    ) -> Tiles:
        """Sort and check a tile list; raises `InputError` on repeats or impossible positions."""
        index = np.asarray(list(index), dtype=np.int64)
        ra, dec = np.asarray(ra, dtype=np.float64), np.asarray(dec, dtype=np.float64)
        order = np.argsort(index, kind="stable")
        if cores is not None and (np.diff(order) < 0).any():  # a survey's cores take seconds
            cores = cores.take(order)
        tiles = cls(index[order], ra[order], dec[order], cores)
        if len(index) == 0:
            raise InputError("tile list: no tile in it, expected at least one")
        repeated = tiles.index[1:][np.diff(tiles.index) == 0]
        if len(repeated):
            raise InputError(f"tile list: tile_index {repeated[0]} is listed more than once")
        bad = ~(np.isfinite(tiles.ra) & (np.abs(tiles.dec) <= 90.0))
        if bad.any():
            raise InputError(
                f"tile list: tile {tiles.index[bad][0]} has the centre "
                f"({tiles.ra[bad][0]}, {tiles.dec[bad][0]}), expected degrees"
            )
        pairs = tiles._tree.query_pairs(1e-9)
        if pairs:
            first, second = min(pairs)
            raise InputError(
                f"tile list: tiles {tiles.index[first]} and {tiles.index[second]} share one centre"
            )
        return tiles

    @cached_property
    def centres(self) -> Floats:
        """Unit vectors of the centres, (n, 3)."""
        return unit_vectors(self.ra, self.dec)

    @cached_property
    def _tree(self) -> cKDTree:
        # takes as long to import as all else here, and short commands come without it
        from scipy.spatial import cKDTree

        return cKDTree(self.centres)

    def position(self, tile_index: int) -> int:
        """Return where a tile stands in the list; raises `InputError` if it does not."""
        place = int(np.searchsorted(self.index, tile_index))
        if place == len(self.index) or self.index[place] != tile_index:
            raise InputError(f"tile list: tile {tile_index} is not in it")
        return place

    @cached_property
    def frames(self) -> Floats:
        """Unit vectors towards centre, east and north at each tile's centre, (n, 3, 3)."""
        planes = TangentPlane.at(self.ra, self.dec)
        return np.stack([planes.centre, planes.east, planes.north], axis=1)

    def owners(self, vectors: Floats, workers: int = 1) -> Integers:
        """Positions (n,) in the list of the tiles that own the sources at unit vectors (n, 3)."""
        if self.cores is None or len(vectors) == 0:
            return self.nearest(vectors, workers)
        owner = self._ranges_about(vectors).owners(vectors)
        gap = owner == NOBODY
        owner[gap] = self.nearest(vectors[gap], workers)
        return owner

    def nearest(self, vectors: Floats, workers: int = 1) -> Integers:
        """Positions (n,) of the tiles with the nearest centre."""
        return self._tree.query(vectors, workers=workers)[1].astype(np.int64, copy=False)

    def cells(
        self, vectors: Floats, shape: tuple[int, int], workers: int = 1
    ) -> tuple[Integers, Integers, Integers]:
        """Where sources at unit vectors (n, 3) are core: the tile's position, row and column (n,).

        `shape` is that of the sub-tile grid; `workers` counts threads.
        """
        owner = self.owners(vectors, workers)
        frame, (x, y, z) = self.frames[owner], vectors.T
        # not a matrix product, whose last bit may depend on how many sources there are
        depth, xi, eta = (
            frame[:, i, 0] * x + frame[:, i, 1] * y + frame[:, i, 2] * z for i in range(3)
        )
        row, col = (
            np.searchsorted(cell_edges(n)[1:-1], side, side="right")
            for n, side in zip(shape, on_plane(depth, eta, xi), strict=True)
        )
        return owner, row, col

    @cached_property
    def _all_ranges(self) -> CoreRanges:
        return self.cores.ranges(np.arange(len(self.index)))

    def _ranges_about(self, vectors: Floats) -> CoreRanges:
        """The cores that may hold some of the sources: few for those of one tile."""
        middle = vectors.sum(axis=0)
        length = np.linalg.norm(middle)
        if length == 0.0:
            return self._all_ranges
        middle /= length
        reach = np.arccos(np.clip((vectors @ middle).min(), -1.0, 1.0)) + np.deg2rad(MAX_REACH_DEG)
        if reach > WIDE_RAD:
            return self._all_ranges
        return self.cores.ranges(self.near(middle, reach + ROUNDING_RAD))

    def near(self, vector: Floats, radius_rad: float) -> Integers:
        """Positions of the tiles whose centre is within an angle of a direction, ascending."""
        chord = 2.0 * np.sin(min(radius_rad, np.pi) / 2.0)
        return np.array(sorted(self._tree.query_ball_point(vector, chord)), dtype=np.int64)


@dataclass(frozen=True)
class Grid:
    """The sub-tile grid of one tile: `n_rows` x `n_cols` cells over the core, margin in radian."""

    tiles: Tiles
    place: int
    shape: tuple[int, int]
    margin_rad: float

    @cached_property
    def plane(self) -> TangentPlane:
        """The plane tangent at the tile's centre."""
        return TangentPlane.at(self.tiles.ra[self.place], self.tiles.dec[self.place])

    @property
    def tile_id(self) -> int:
        """The tile's index."""
        return int(self.tiles.index[self.place])

    def centre(self, row: int, col: int) -> Floats:
        """Unit vector (3,) of the centre of a cell."""
        eta, xi = (cell_edges(n) for n in self.shape)
        return self.plane.unproject((xi[col] + xi[col + 1]) / 2, (eta[row] + eta[row + 1]) / 2)

    def core_cells(self, vectors: Floats) -> tuple[Integers, Integers]:
        """Row and column (n,) of sources; both -1 for sources that another tile owns."""
        owner, row, col = self.tiles.cells(vectors, self.shape)
        owned = owner == self.place
        return np.where(owned, row, -1), np.where(owned, col, -1)

    def extended_cells(self, vectors: Floats) -> tuple[Flags, Flags]:
        """Membership of sources in the extended rows (n, R) and columns (n, C).

        A source is in the extended area of a cell if it is in both its row and its column: within
        the margin of the cell's great-circle borders, outer cells being open outward, and within
        the margin of the tile: of the border half-way to other tiles' centres, or of the box around
        its official core. The union of the two holds whatever the tile owns, sources that no
        official core holds included.
        """
        rows, cols = (
            self._near_strips(vectors, n, axis)
            for n, axis in zip(self.shape, (self.plane.north, self.plane.east), strict=True)
        )
        owned = self._beyond_border(vectors) <= self.margin_rad + ROUNDING_RAD
        if self.core_box is not None:
            owned |= self._near_core_box(vectors)
        return rows & owned[:, None], cols & owned[:, None]

    @cached_property
    def core_box(self) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """Where the official core lies in the tangent plane, radian: (west, east), (south, north).

        None without one.
        """
        cells = None if self.tiles.cores is None else self.tiles.cores.of(self.place)
        if cells is None or len(cells) == 0:
            return None
        sides = self.plane.project(outlines(cells, OUTLINE_STEPS).reshape(-1, 3))
        west_east, south_north = (
            (side.min() - BULGE_RAD, side.max() + BULGE_RAD) for side in sides
        )
        return west_east, south_north

    @property
    def overhang_rad(self) -> float:
        """How far the official core reaches beyond the grid on any side; 0 without one."""
        if self.core_box is None:
            return 0.0
        reach = np.arctan(np.abs(self.core_box).max()) - CORE_SIZE_ARCMIN / 2.0 * RADIANS_PER_ARCMIN
        return max(float(reach), 0.0)

    def _near_core_box(self, vectors: Floats) -> Flags:
        near = vectors @ self.plane.centre > 0.0
        for axis, (low, high) in zip(
            (self.plane.east, self.plane.north), self.core_box, strict=True
        ):
            above_low, above_high = self._above(vectors, np.array([low, high]), axis).T
            near &= (above_low >= -self.margin_rad) & (above_high <= self.margin_rad)
        return near

    def _near_strips(self, vectors: Floats, n_cells: int, axis: Floats) -> Flags:
        above = self._above(vectors, cell_edges(n_cells)[1:-1], axis)  # (n, n_cells - 1)
        near = np.ones((len(vectors), n_cells), dtype=bool)
        near[:, 1:] &= above >= -self.margin_rad - ROUNDING_RAD
        near[:, :-1] &= above <= self.margin_rad + ROUNDING_RAD
        return near

    def _above(self, vectors: Floats, tangents: Floats, axis: Floats) -> Floats:
        """Angles (n, m) of sources above the great circles through m places on an axis."""
        normals = axis - tangents[:, None] * self.plane.centre
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        return np.arcsin(np.clip(vectors @ normals.T, -1.0, 1.0))

    def _beyond_border(self, vectors: Floats) -> Floats:
        """Angle (n,) beyond the border with the tile of the nearest centre; negative inside."""
        owners = self.tiles.nearest(vectors)
        towards = self.tiles.centres[owners] - self.tiles.centres[self.place]
        length = np.linalg.norm(towards, axis=-1)
        foreign = owners != self.place
        sine = (vectors * towards).sum(-1) / np.where(foreign, length, 1.0)
        return np.where(foreign, np.arcsin(np.clip(sine, -1.0, 1.0)), -np.inf)

    def core_corners(self, row: int, col: int) -> Floats:
        """Unit vectors (4, 3) of the corners of a cell's box, counter-clockwise from south-west."""
        eta, xi = (cell_edges(n) for n in self.shape)
        return self._box(xi[col], xi[col + 1], eta[row], eta[row + 1])

    def extended_corners(self, row: int, col: int, sources: Floats) -> Floats:
        """Corners (4, 3) of the box that holds the cell, its margin and the sources (n, 3)."""
        eta, xi = (cell_edges(n) for n in self.shape)
        # a little more than the margin: a plane stretches angles towards its edge
        margin = self.margin_rad * 1.001
        source_xi, source_eta = (
            np.clip(side, -MAX_REACH, MAX_REACH) for side in self.plane.project(sources)
        )
        return self._box(
            min(xi[col] - margin, source_xi.min(initial=np.inf)),
            max(xi[col + 1] + margin, source_xi.max(initial=-np.inf)),
            min(eta[row] - margin, source_eta.min(initial=np.inf)),
            max(eta[row + 1] + margin, source_eta.max(initial=-np.inf)),
        )

    def _box(self, west: float, east: float, south: float, north: float) -> Floats:
        return self.plane.unproject(
            np.array([west, east, east, west]), np.array([south, south, north, north])
        )


def cell_edges(n_cells: int) -> Floats:
    """Borders (n_cells + 1,) of the cells along a side of a tile, in its tangent plane, radian."""
    half = np.tan(CORE_SIZE_ARCMIN / 2.0 * RADIANS_PER_ARCMIN)
    return np.linspace(-half, half, n_cells + 1)
