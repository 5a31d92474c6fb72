"""Vectorised geometry on the sphere: tangent planes, separations, the tile that owns a source."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .config import Area, MerTile

Array = NDArray[np.float64]


def project(ra: ArrayLike, dec: ArrayLike, ra0: float, dec0: float) -> tuple[Array, Array]:
    """Gnomonic coordinates (xi east, eta north) about (ra0, dec0), all in degrees.

    NaN on the hemisphere that faces away.
    """
    delta = np.deg2rad(np.asarray(ra, dtype=float) - ra0)
    dec = np.deg2rad(np.asarray(dec, dtype=float))
    sin0, cos0 = np.sin(np.deg2rad(dec0)), np.cos(np.deg2rad(dec0))
    depth = sin0 * np.sin(dec) + cos0 * np.cos(dec) * np.cos(delta)
    depth = np.where(depth > 0, depth, np.nan)
    xi = np.cos(dec) * np.sin(delta) / depth
    eta = (cos0 * np.sin(dec) - sin0 * np.cos(dec) * np.cos(delta)) / depth
    return np.rad2deg(xi), np.rad2deg(eta)


def deproject(xi: ArrayLike, eta: ArrayLike, ra0: float, dec0: float) -> tuple[Array, Array]:
    """Right ascension in [0, 360) and declination of tangent-plane points, all in degrees."""
    xi, eta = np.deg2rad(np.asarray(xi, dtype=float)), np.deg2rad(np.asarray(eta, dtype=float))
    sin0, cos0 = np.sin(np.deg2rad(dec0)), np.cos(np.deg2rad(dec0))
    across = cos0 - eta * sin0
    ra = ra0 + np.rad2deg(np.arctan2(xi, across))
    dec = np.arctan2(sin0 + eta * cos0, np.hypot(xi, across))
    return ra % 360.0, np.rad2deg(dec)


def unit_vectors(ra: ArrayLike, dec: ArrayLike) -> Array:
    """Unit vectors (n, 3) of directions in degrees."""
    ra, dec = np.deg2rad(np.asarray(ra, dtype=float)), np.deg2rad(np.asarray(dec, dtype=float))
    return np.stack(
        [np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)],
        axis=-1,
    )


def owner_tile(ra: ArrayLike, dec: ArrayLike, tiles: Sequence[MerTile]) -> NDArray[np.intp]:
    """Place in `tiles` of the tile whose centre is nearest on the sphere."""
    centres = unit_vectors([tile.ra for tile in tiles], [tile.dec for tile in tiles])
    return np.argmax(unit_vectors(ra, dec) @ centres.T, axis=-1)


def area_corners(area: Area) -> Array:
    """Corners (4, 2) of the area in its tangent plane: xi, eta in degrees, in order."""
    half_width, half_height = area.width_arcmin / 120, area.height_arcmin / 120
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    return signs * np.array([half_width, half_height])


def convex_overlap(first: Array, second: Array) -> bool:
    """Whether two convex polygons (n, 2) share area (separating-axis test)."""
    for polygon in (first, second):
        edges = np.roll(polygon, -1, axis=0) - polygon
        for normal in np.stack([-edges[:, 1], edges[:, 0]], axis=1):
            one, other = first @ normal, second @ normal
            if one.max() <= other.min() or other.max() <= one.min():
                return False
    return True


def same_anywhere(values: Array) -> Array:
    """Values to ten decimals, for files: beyond them, processors of another make may differ."""
    return np.round(values, 10)


def object_ids(ra: Array, dec: Array) -> NDArray[np.int64]:
    """Euclid-like OBJECT_ID: RA and |Dec| in 1e-7 deg side by side, with the sign of Dec."""
    ra_part = np.rint(ra * 1e7).astype(np.int64)
    dec_part = np.rint(np.abs(dec) * 1e7).astype(np.int64)
    return np.where(dec < 0, -1, 1) * (ra_part * 1_000_000_000 + dec_part)
