"""The sub-tiles of a catalogue as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from constellation.catalogue.schema import KEY
from constellation.quality.regression import ShearData
from constellation.sphere import Flags, Floats, Integers

SHEAR_VALUES = ("G1", "G2", "G1_ERR", "G2_ERR", "G1G2_COV")
_CELL_BITS = 7  # rows and columns are below 128


@dataclass(frozen=True)
class SubTiles:
    """n rows of the shear table, in its order; missing numbers are NaN.

    `key` (n,) packs tile, row and column; `ra`, `dec` deg; `shear`, `psf` (n, 2), `covariance`
    (n, 2, 2).
    """

    key: Integers
    ra: Floats
    dec: Floats
    status: Integers
    flags: Integers
    n_sources: Integers
    shear: Floats
    covariance: Floats
    psf: Floats
    convergence: Floats

    @classmethod
    def of(cls, table: pa.Table) -> SubTiles:
        """The rows of a shear table."""
        g1, g2, e1, e2, cross = (floats(table, name) for name in SHEAR_VALUES)
        covariance = np.stack([e1**2, cross, cross, e2**2], axis=-1).reshape(-1, 2, 2)
        return cls(
            key=pack(table),
            ra=floats(table, "RA"),
            dec=floats(table, "DEC"),
            status=integers(table, "STATUS"),
            flags=integers(table, "FLAGS"),
            n_sources=integers(table, "N_SOURCES"),
            shear=np.stack([g1, g2], axis=-1),
            covariance=covariance,
            psf=np.stack([floats(table, "PSF_E1"), floats(table, "PSF_E2")], axis=-1),
            convergence=floats(table, "CONVERGENCE"),
        )

    @property
    def tile(self) -> Integers:
        """Tile of each (n,)."""
        return self.key >> (2 * _CELL_BITS)

    def data(self, chosen: Flags, less: Floats) -> ShearData:
        """The shear of some of them, `less` (n, 2) subtracted."""
        return ShearData((self.shear - less)[chosen], self.covariance[chosen], self.tile[chosen])

    @property
    def has_shear(self) -> Flags:
        """(n,) those with shear and a covariance that can be one."""
        finite = np.isfinite(self.shear).all(axis=1) & np.isfinite(self.covariance).all(axis=(1, 2))
        variance = np.diagonal(self.covariance, axis1=1, axis2=2)
        with np.errstate(invalid="ignore"):
            determinant = variance.prod(axis=1) - self.covariance[:, 0, 1] ** 2
            return finite & (variance > 0.0).all(axis=1) & (determinant > 0.0)


def floats(table: pa.Table, name: str) -> Floats:
    """A column as float64, NaN where null."""
    return table[name].cast(pa.float64()).to_numpy()


def integers(table: pa.Table, name: str, missing: int = -1) -> Integers:
    """A column as int64, with another number where null."""
    return pc.fill_null(table[name].cast(pa.int64()), missing).to_numpy()


def pack(table: pa.Table) -> Integers:
    """Tile, row and column of each row (n,) as one number, in the order of the three."""
    tile, row, col = (integers(table, name, 0) for name in KEY)
    return pack_cells(tile, row, col)


def pack_cells(tile: Integers, row: Integers, col: Integers) -> Integers:
    """The same of arrays."""
    return (tile << (2 * _CELL_BITS)) | (row << _CELL_BITS) | col


def name_of(key: int) -> str:
    """The sub-tile's name: `{tile}_{row}_{col}`."""
    mask = (1 << _CELL_BITS) - 1
    return f"{key >> (2 * _CELL_BITS)}_{(key >> _CELL_BITS) & mask}_{key & mask}"


def names_of(keys: Integers, most: int = 3) -> list[str]:
    """The names of the first few."""
    return [name_of(int(key)) for key in keys[:most]]
