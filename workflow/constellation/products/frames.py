"""Shapes in other frames: the direction from one position to another, and how north turns.

Every shape of the catalogue is given in (u west, v north) at its own position. To compare shapes
of different positions they are carried along the great circle between them, which keeps their angle
to it (parallel transport). Angles are counted from u to v.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from constellation.sphere import Floats, TangentPlane, unit_vectors


class Path(NamedTuple):
    """Great circles from n positions to others, in radian."""

    length: Floats  # (n,)
    start: Floats  # (n,) its direction where it starts, from west to north
    end: Floats  # (n,) its direction where it arrives

    @property
    def turn(self) -> Floats:
        """What the angle of a shape grows by when it is carried along."""
        return self.end - self.start


def great_circles(ra: ArrayLike, dec: ArrayLike, to_ra: ArrayLike, to_dec: ArrayLike) -> Path:
    """The great circles from positions to others, all in degrees and of shapes that broadcast.

    Of equal positions the direction is west, where it starts and where it ends.
    """
    ra, dec, to_ra, to_dec = (
        np.asarray(x, float) for x in np.broadcast_arrays(ra, dec, to_ra, to_dec)
    )
    here, there = TangentPlane.at(ra, dec), TangentPlane.at(to_ra, to_dec)
    away = there.centre - here.centre  # the difference, whose digits do not cancel when it is short
    sine = np.linalg.norm(np.cross(here.centre, away), axis=-1)
    cosine = np.sum(here.centre * there.centre, axis=-1)
    start = _angle(-_dot(here.east, away), _dot(here.north, away))
    # at its end the circle leads away from where it started
    end = _angle(-_dot(there.east, away), _dot(there.north, away))
    return Path(np.arctan2(sine, cosine), start, end)


def middle(ra: ArrayLike, dec: ArrayLike) -> tuple[float, float]:
    """The mean direction of positions, in degrees."""
    return tuple(map(float, positions(unit_vectors(ra, dec).reshape(-1, 3).sum(axis=0))))


def positions(vectors: Floats) -> tuple[Floats, Floats]:
    """RA and Dec in degrees of vectors (..., 3)."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.rad2deg(np.arctan2(y, x)) % 360.0, np.rad2deg(np.arctan2(z, np.hypot(x, y)))


def _dot(a: Floats, b: Floats) -> Floats:
    return np.sum(a * b, axis=-1)


def _angle(u: Floats, v: Floats) -> Floats:
    return np.arctan2(v, u)
