"""Cells that galaxies are grouped in: HEALPix pixels, tiles, sub-tiles, squares of a plane."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa
from astropy import units
from astropy_healpix import HEALPix

from constellation.catalogue.schema import HEALPIX_ORDER, KEY
from constellation.products.frames import middle, positions
from constellation.products.reading import POSITION, subtile_keys
from constellation.sphere import RADIANS_PER_ARCMIN, Floats, Integers, TangentPlane, unit_vectors
from shine.errors import InputError, explain

MOST_ORDER = 18  # cells of 0.8 arcsec: no galaxy shares one
_PLANE_REACH_DEG = 30.0


class Cells(Protocol):
    """A way to group galaxies.

    `columns` are those of the sources that it looks at; `own_frames` says that each galaxy's shape
    is taken in the frame of its own position, instead of that of the cell's centre.
    """

    columns: tuple[str, ...]
    own_frames: bool

    def labels(self, sources: pa.Table) -> Integers:
        """The cell (n,) of each source."""

    def centres(self, labels: Integers) -> tuple[Floats, Floats]:
        """RA and Dec (n,) in degrees of cells; their axes are those of the cells' shears."""

    def names(self, labels: Integers) -> dict[str, pa.Array]:
        """The columns that name cells in a table."""

    @property
    def description(self) -> dict[str, str]:
        """What to say of the cells in a file's metadata."""


@dataclass(frozen=True)
class HealpixCells:
    """The nested HEALPix pixels of an order, 0 to `MOST_ORDER`."""

    order: int
    columns = POSITION
    own_frames = False

    def labels(self, sources: pa.Table) -> Integers:
        return np.asarray(sources["HEALPIX"]) >> 2 * (HEALPIX_ORDER - self.order)

    def centres(self, labels: Integers) -> tuple[Floats, Floats]:
        sky = HEALPix(2**self.order, order="nested")
        lon, lat = sky.healpix_to_lonlat(labels)
        return lon.to_value(units.deg), lat.to_value(units.deg)

    def names(self, labels: Integers) -> dict[str, pa.Array]:
        return {"HEALPIX": pa.array(labels, pa.int64())}

    @property
    def description(self) -> dict[str, str]:
        return {"cells": "HEALPix", "ordering": "nested", "order": str(self.order)}


@dataclass(frozen=True)
class SubtileCells:
    """The sub-tiles of a catalogue; their shears are those of its own, to rounding."""

    shear: pa.Table
    columns = (*KEY, *POSITION)
    own_frames = True

    def labels(self, sources: pa.Table) -> Integers:
        return subtile_keys(sources)

    def centres(self, labels: Integers) -> tuple[Floats, Floats]:
        keys = subtile_keys(self.shear)
        order = np.argsort(keys)
        rows = order[np.searchsorted(keys[order], labels)]
        return np.asarray(self.shear["RA"])[rows], np.asarray(self.shear["DEC"])[rows]

    def names(self, labels: Integers) -> dict[str, pa.Array]:
        parts = (labels >> 16, (labels >> 8) & 0xFF, labels & 0xFF)
        kinds = (pa.int64(), pa.int16(), pa.int16())
        return {name: pa.array(x, t) for name, x, t in zip(KEY, parts, kinds, strict=True)}

    @property
    def description(self) -> dict[str, str]:
        return {"cells": "sub-tiles"}


@dataclass(frozen=True)
class TileCells:
    """The tiles of a catalogue; their centres are the middles of their sub-tiles."""

    shear: pa.Table
    columns = (*KEY, *POSITION)
    own_frames = False

    def labels(self, sources: pa.Table) -> Integers:
        return np.asarray(sources["TILE_ID"])

    def centres(self, labels: Integers) -> tuple[Floats, Floats]:
        return tuple(np.array([self._middles[label] for label in labels.tolist()]).T)

    def names(self, labels: Integers) -> dict[str, pa.Array]:
        return {"TILE_ID": pa.array(labels, pa.int64())}

    @property
    def description(self) -> dict[str, str]:
        return {"cells": "tiles"}

    @cached_property
    def _middles(self) -> dict[int, tuple[float, float]]:
        tile = np.asarray(self.shear["TILE_ID"])
        ra, dec = np.asarray(self.shear["RA"]), np.asarray(self.shear["DEC"])
        return {n: middle(ra[tile == n], dec[tile == n]) for n in np.unique(tile).tolist()}


@dataclass(frozen=True)
class PlaneCells:
    """Squares of a tangent plane, side by side from its centre on; ROW grows to north, COL to east.

    The plane's centre (degrees) is a corner of cell 0, 0, north and east of it.
    """

    ra: float
    dec: float
    side_arcmin: float
    columns = POSITION
    own_frames = False

    def labels(self, sources: pa.Table) -> Integers:
        plane = TangentPlane.at(self.ra, self.dec)
        vectors = unit_vectors(np.asarray(sources["RA"]), np.asarray(sources["DEC"]))
        if (vectors @ plane.centre < np.cos(np.deg2rad(_PLANE_REACH_DEG))).any():
            where = f"cells of a plane around RA {self.ra:.4f}, Dec {self.dec:+.4f}"
            expected = f"all within {_PLANE_REACH_DEG:.0f} degrees"
            raise InputError(
                explain(where, "galaxies further away", expected, "Use HEALPix cells.")
            )
        xi, eta = plane.project(vectors)
        side = self.side_arcmin * RADIANS_PER_ARCMIN
        row, col = (np.floor(x / side).astype(np.int64) for x in (eta, xi))
        return (row << 32) + col + (1 << 31)

    def centres(self, labels: Integers) -> tuple[Floats, Floats]:
        row, col = self._places(labels)
        side = self.side_arcmin * RADIANS_PER_ARCMIN
        plane = TangentPlane.at(self.ra, self.dec)
        return positions(plane.unproject((col + 0.5) * side, (row + 0.5) * side))

    def names(self, labels: Integers) -> dict[str, pa.Array]:
        row, col = self._places(labels)
        return {"ROW": pa.array(row, pa.int32()), "COL": pa.array(col, pa.int32())}

    @property
    def description(self) -> dict[str, str]:
        centre = {"plane_ra_deg": repr(self.ra), "plane_dec_deg": repr(self.dec)}
        return {"cells": "squares of a tangent plane", **centre, "side": f"{self.side_arcmin:g}'"}

    def _places(self, labels: Integers) -> tuple[Integers, Integers]:
        return labels >> 32, (labels & 0xFFFFFFFF) - (1 << 31)
