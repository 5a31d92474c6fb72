"""The tangential shear around positions, from the stored samples.

In the frame whose first axis points from the galaxy to the position, along the great circle, a
shear g has the components -(g_t + i g_x): with phi the position's direction, from west to north,

    g_t = -(g1 cos 2phi + g2 sin 2phi),     g_x = -(g2 cos 2phi - g1 sin 2phi)

so that a mass at the position makes g_t > 0. Turned into that frame, the samples of all galaxies of
a ring have one shear, which is inferred as any other: no expansion, however strong the lens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from constellation.products.frames import great_circles
from constellation.products.reading import Galaxies
from constellation.products.saving import described_table
from constellation.sphere import RADIANS_PER_ARCMIN, Floats
from shine.errors import InputError, explain
from shine.population import ShapePrior, infer_groups
from shine.reinference import shape_samples

_DESCRIPTIONS = {
    "R_MIN": ("arcmin", "inner radius"),
    "R_MAX": ("arcmin", "outer radius"),
    "R_MEAN": ("arcmin", "mean separation of the galaxies"),
    "G_T": ("", "tangential reduced shear: positive around a mass"),
    "G_X": ("", "cross shear, at 45 degrees to it: zero by lensing"),
    "G_T_ERR": ("", "standard deviation of G_T, by shapes and noise"),
    "G_X_ERR": ("", "standard deviation of G_X"),
    "N_SOURCES": ("", "galaxies, counted once for every position that they are around"),
    "ELLIPTICITY_SIGMA": ("", "dispersion of each component of the intrinsic ellipticities"),
}


@dataclass(frozen=True)
class Rings:
    """Rings around p positions: their RA and Dec (p,) in degrees, and edges (n + 1,) in arcmin."""

    ra: Floats
    dec: Floats
    edges_arcmin: Floats


def tangential_profile(galaxies: Galaxies, rings: Rings, prior: ShapePrior) -> pa.Table:
    """Tangential and cross shear of every ring that holds a galaxy, from the inside out.

    The samples of all galaxies within the outermost ring are in memory at once, 2 kB for one with
    64. Raises `InputError` if there is none.
    """
    label, separation, shapes = [], [], []
    for table, distance, direction in _around(galaxies, rings):
        label.append(np.searchsorted(rings.edges_arcmin, distance, "right") - 1)
        separation.append(distance)
        shapes.append((table, -direction))
    if not label:
        where = f"{galaxies.catalogue.folder}, within {rings.edges_arcmin[-1]:g} arcmin"
        action = "Check the positions: RA and Dec in degrees."
        raise InputError(explain(where, "no galaxy with samples", "at least one", action))
    tables, turns = zip(*shapes, strict=True)
    samples = shape_samples(_apart(tables)).turned(np.concatenate(turns))
    ring = np.concatenate(label)
    found = infer_groups(samples, ring, prior)
    mean = np.bincount(ring, np.concatenate(separation)) / np.maximum(np.bincount(ring), 1)
    error = np.sqrt(np.diagonal(found.covariance, axis1=1, axis2=2))
    values = {
        "R_MIN": rings.edges_arcmin[found.label],
        "R_MAX": rings.edges_arcmin[found.label + 1],
        "R_MEAN": mean[found.label],
        "G_T": -found.shear[:, 0],
        "G_X": -found.shear[:, 1],
        "G_T_ERR": error[:, 0],
        "G_X_ERR": error[:, 1],
        "N_SOURCES": found.n_galaxies.astype(np.int32),
        "ELLIPTICITY_SIGMA": found.ellipticity_sigma,
    }
    metadata = {"positions": str(len(rings.ra))}
    return described_table(values, _DESCRIPTIONS, metadata)


def _around(galaxies: Galaxies, rings: Rings) -> Iterator[tuple[pa.Table, Floats, Floats]]:
    """For each position the galaxies in its rings, their separations (arcmin) and directions."""
    low, high = rings.edges_arcmin[0], rings.edges_arcmin[-1]
    for ra, dec in zip(rings.ra, rings.dec, strict=True):
        table = galaxies.cone(ra, dec, high / 60.0)
        path = great_circles(np.asarray(table["RA"]), np.asarray(table["DEC"]), ra, dec)
        distance = path.length / RADIANS_PER_ARCMIN
        inside = (distance >= low) & (distance < high)
        if inside.any():
            yield table.filter(pa.array(inside)), distance[inside], path.start[inside]


def _apart(tables: tuple[pa.Table, ...]) -> pa.Table:
    """All rows; around two positions, the same blends count as two."""
    result = []
    for n, table in enumerate(tables):
        place = table.column_names.index("BLEND")
        blend = np.asarray(table["BLEND"]).astype(np.int64)
        result.append(table.set_column(place, "BLEND", pa.array(blend + (n << 32))))
    return pa.concat_tables(result)
