"""Directions as unit vectors, and the planes that touch the sphere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

RADIANS_PER_ARCMIN = np.pi / (180.0 * 60.0)


@dataclass(frozen=True)
class TangentPlane:
    """The plane tangent to the sphere at `centre`; coordinates are tangents of angles, in radian.

    `centre`, `east` and `north` are unit vectors (3,).
    """

    centre: Floats
    east: Floats
    north: Floats

    @classmethod
    def at(cls, ra_deg: ArrayLike, dec_deg: ArrayLike) -> TangentPlane:
        """Return the plane tangent at a sky position; at the poles, east follows from `ra_deg`."""
        ra, dec = np.deg2rad(ra_deg), np.deg2rad(dec_deg)
        east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], axis=-1)
        north = np.stack(
            [-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], axis=-1
        )
        return cls(unit_vectors(ra_deg, dec_deg), east, north)

    def project(self, vectors: Floats) -> tuple[Floats, Floats]:
        """Gnomonic xi (east) and eta (north) of unit vectors (n, 3), in radian.

        Infinite for directions 90 degrees or more from the centre.
        """
        return on_plane(vectors @ self.centre, vectors @ self.east, vectors @ self.north)

    def unproject(self, xi: ArrayLike, eta: ArrayLike) -> Floats:
        """Unit vectors (..., 3) of tangent-plane positions in radian."""
        xi, eta = np.asarray(xi)[..., None], np.asarray(eta)[..., None]
        vectors = self.centre + xi * self.east + eta * self.north
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def unit_vectors(ra_deg: ArrayLike, dec_deg: ArrayLike) -> Floats:
    """Unit vectors (..., 3) of sky positions in degrees."""
    # not imported from shine.euclid.wcs: astropy would double the start-up of every job
    ra, dec = np.deg2rad(ra_deg), np.deg2rad(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def on_plane(depth: Floats, *sides: Floats) -> tuple[Floats, ...]:
    """Tangent-plane coordinates from components towards the centre and to the sides, all (n,)."""
    visible = depth > 1e-12
    safe = np.where(visible, depth, 1.0)
    return tuple(np.where(visible, side / safe, np.copysign(np.inf, side)) for side in sides)


def bounding_circle(vectors: Floats) -> tuple[float, float, float]:
    """RA and DEC of the middle of unit vectors (n, 3), and the radius around it of all, degrees.

    The middle is the direction of their mean, not that of the smallest circle. n is at least 1.
    """
    mean = vectors.mean(axis=0)
    if np.linalg.norm(mean) < 1e-6:  # all around the sphere: any middle is as good
        mean = vectors[0]
    ra, dec = np.arctan2(mean[1], mean[0]), np.arctan2(mean[2], np.hypot(mean[0], mean[1]))
    ra_deg, dec_deg = float(np.rad2deg(ra) % 360.0), float(np.rad2deg(dec))
    chord = np.linalg.norm(vectors - unit_vectors(ra_deg, dec_deg), axis=-1).max()
    return ra_deg, dec_deg, float(np.rad2deg(2.0 * np.arcsin(min(chord / 2.0, 1.0))))
