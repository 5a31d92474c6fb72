"""Tiles and sub-tiles on the sphere: every source is core in exactly one sub-tile.

A source belongs to the tile with the nearest centre. Within the tile, sub-tiles are the cells of
an R x C grid over the 30 arcmin core, in the plane tangent at the tile's centre (xi east, eta
north; rows grow with eta, columns with xi). The outer cells take in whatever the tile owns beyond
the core. Every border (of cells, and between tiles) is a great circle, so "within the margin of"
is the exact angular distance to great circles.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from shine.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

CORE_SIZE_ARCMIN = 30.0
RADIANS_PER_ARCMIN = np.pi / (180.0 * 60.0)
ROUNDING_RAD = 1e-12  # so that a core source is in its extended area even with no margin
# a tile's sources lie within half a degree of its centre; this bounds a degenerate tile list
MAX_REACH = float(np.tan(np.deg2rad(2.0)))


@dataclass(frozen=True)
class Tiles:
    """A list of tiles, sorted by index, whatever the order it was given in.

    `index` int64 (n,), `ra` and `dec` of the centres in degrees (n,).
    """

    index: Integers
    ra: Floats
    dec: Floats

    @classmethod
    def from_columns(cls, index: Iterable[int], ra: ArrayLike, dec: ArrayLike) -> Tiles:
        """Sort and check a tile list; raises `InputError` on repeats or impossible positions."""
        index = np.asarray(list(index), dtype=np.int64)
        ra, dec = np.asarray(ra, dtype=np.float64), np.asarray(dec, dtype=np.float64)
        order = np.argsort(index, kind="stable")
        tiles = cls(index[order], ra[order], dec[order])
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
        return cKDTree(self.centres)

    def position(self, tile_index: int) -> int:
        """Return where a tile stands in the list; raises `InputError` if it does not."""
        place = int(np.searchsorted(self.index, tile_index))
        if place == len(self.index) or self.index[place] != tile_index:
            raise InputError(f"tile list: tile {tile_index} is not in it")
        return place

    def owners(self, vectors: Floats) -> Integers:
        """Positions (n,) in the list of the tiles that own the sources at unit vectors (n, 3)."""
        return self._tree.query(vectors)[1]

    def near(self, vector: Floats, radius_rad: float) -> Integers:
        """Positions of the tiles whose centre is within an angle of a direction, ascending."""
        chord = 2.0 * np.sin(min(radius_rad, np.pi) / 2.0)
        return np.array(sorted(self._tree.query_ball_point(vector, chord)), dtype=np.int64)


@dataclass(frozen=True)
class TangentPlane:
    """The plane tangent to the sphere at `centre`; coordinates are tangents of angles, in radian.

    `centre`, `east` and `north` are unit vectors (3,).
    """

    centre: Floats
    east: Floats
    north: Floats

    @classmethod
    def at(cls, ra_deg: float, dec_deg: float) -> TangentPlane:
        """Return the plane tangent at a sky position; at the poles, east follows from `ra_deg`."""
        ra, dec = np.deg2rad(ra_deg), np.deg2rad(dec_deg)
        east = np.array([-np.sin(ra), np.cos(ra), 0.0])
        north = np.array([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
        return cls(unit_vectors(ra_deg, dec_deg), east, north)

    def project(self, vectors: Floats) -> tuple[Floats, Floats]:
        """Gnomonic xi (east) and eta (north) of unit vectors (n, 3), in radian.

        Infinite for directions 90 degrees or more from the centre.
        """
        depth = vectors @ self.centre
        sides = vectors @ self.east, vectors @ self.north
        visible = depth > 1e-12
        safe = np.where(visible, depth, 1.0)
        xi, eta = (np.where(visible, side / safe, np.copysign(np.inf, side)) for side in sides)
        return xi, eta

    def unproject(self, xi: ArrayLike, eta: ArrayLike) -> Floats:
        """Unit vectors (..., 3) of tangent-plane positions in radian."""
        xi, eta = np.asarray(xi)[..., None], np.asarray(eta)[..., None]
        vectors = self.centre + xi * self.east + eta * self.north
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


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

    def edges(self, n_cells: int) -> Floats:
        """Cell borders (n_cells + 1,) in the tangent plane, radian."""
        half = np.tan(CORE_SIZE_ARCMIN / 2.0 * RADIANS_PER_ARCMIN)
        return np.linspace(-half, half, n_cells + 1)

    def centre(self, row: int, col: int) -> Floats:
        """Unit vector (3,) of the centre of a cell."""
        eta, xi = (self.edges(n) for n in self.shape)
        return self.plane.unproject((xi[col] + xi[col + 1]) / 2, (eta[row] + eta[row + 1]) / 2)

    def core_cells(self, vectors: Floats) -> tuple[Integers, Integers]:
        """Row and column (n,) of sources; both -1 for sources that another tile owns."""
        xi, eta = self.plane.project(vectors)
        row, col = (
            np.searchsorted(self.edges(n)[1:-1], coordinate, side="right")
            for n, coordinate in zip(self.shape, (eta, xi), strict=True)
        )
        owned = self.tiles.owners(vectors) == self.place
        return np.where(owned, row, -1), np.where(owned, col, -1)

    def extended_cells(self, vectors: Floats) -> tuple[Flags, Flags]:
        """Membership of sources in the extended rows (n, R) and columns (n, C).

        A source is in the extended area of a cell if it is in both its row and its column: within
        the margin of the cell's great-circle borders, outer cells being open outward, and within
        the margin of the tile's border.
        """
        rows, cols = (
            self._near_strips(vectors, n, axis)
            for n, axis in zip(self.shape, (self.plane.north, self.plane.east), strict=True)
        )
        owned = self._beyond_border(vectors) <= self.margin_rad
        return rows & owned[:, None], cols & owned[:, None]

    def _near_strips(self, vectors: Floats, n_cells: int, axis: Floats) -> Flags:
        tangents = self.edges(n_cells)[1:-1]
        normals = axis - tangents[:, None] * self.plane.centre
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        above = np.arcsin(np.clip(vectors @ normals.T, -1.0, 1.0))  # (n, n_cells - 1)
        near = np.ones((len(vectors), n_cells), dtype=bool)
        near[:, 1:] &= above >= -self.margin_rad - ROUNDING_RAD
        near[:, :-1] &= above <= self.margin_rad + ROUNDING_RAD
        return near

    def _beyond_border(self, vectors: Floats) -> Floats:
        """Angle (n,) beyond the border with each source's owner tile; negative inside."""
        owners = self.tiles.owners(vectors)
        towards = self.tiles.centres[owners] - self.tiles.centres[self.place]
        length = np.linalg.norm(towards, axis=-1)
        foreign = owners != self.place
        sine = (vectors * towards).sum(-1) / np.where(foreign, length, 1.0)
        return np.where(foreign, np.arcsin(np.clip(sine, -1.0, 1.0)), -np.inf)

    def core_corners(self, row: int, col: int) -> Floats:
        """Unit vectors (4, 3) of the corners of a cell's box, counter-clockwise from south-west."""
        eta, xi = (self.edges(n) for n in self.shape)
        return self._box(xi[col], xi[col + 1], eta[row], eta[row + 1])

    def extended_corners(self, row: int, col: int, sources: Floats) -> Floats:
        """Corners (4, 3) of the box that holds the cell, its margin and the sources (n, 3)."""
        eta, xi = (self.edges(n) for n in self.shape)
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


def unit_vectors(ra_deg: ArrayLike, dec_deg: ArrayLike) -> Floats:
    """Unit vectors (..., 3) of sky positions in degrees."""
    # not imported from shine.euclid.wcs: astropy would double the start-up of every job
    ra, dec = np.deg2rad(ra_deg), np.deg2rad(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
