"""The galaxies of a published catalogue that products rest on, a file at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from constellation.catalogue.published import PublishedCatalogue
from constellation.catalogue.schema import KEY
from constellation.sphere import Flags, Integers
from shine.errors import InputError, Status, explain

POSITION = ("RA", "DEC", "HEALPIX")
Near = tuple[float, float, float]  # RA, Dec and radius in degrees
COLUMNS = (*KEY, *POSITION, "BLEND", "SHAPE_SAMPLES", "SAMPLE_LOG_WEIGHT")


@dataclass(frozen=True)
class Galaxies:
    """The sources with samples of the sub-tiles that have converged."""

    catalogue: PublishedCatalogue

    @cached_property
    def converged(self) -> pa.Table:
        """The rows of these sub-tiles in the shear catalogue; raises `InputError` for none."""
        shear = self.catalogue.shear
        found = shear.filter(pc.equal(shear["STATUS"], int(Status.OK)))
        if not found.num_rows:
            where = self.catalogue.folder / "shear.parquet"
            action = "See `constellation status` for what became of them."
            raise InputError(explain(where, "no sub-tile with a shear", "at least one", action))
        return found

    @property
    def left_out(self) -> int:
        """How many sub-tiles of the catalogue have no converged shear."""
        return self.catalogue.shear.num_rows - self.converged.num_rows

    def by_file(self, near: Near | None = None) -> Iterator[pa.Table]:
        """Their `COLUMNS`, one file after another; of files that can hold any within `near`."""
        return map(self.usable, self.catalogue.sources_by_file(COLUMNS, near))

    def cone(self, ra_deg: float, dec_deg: float, radius_deg: float) -> pa.Table:
        """Those within a radius of a position."""
        return self.usable(self.catalogue.cone(ra_deg, dec_deg, radius_deg, COLUMNS))

    def dispersion(self) -> float:
        """The dispersion of each component of the intrinsic ellipticity, over all sub-tiles.

        Raises `InputError` if it was not inferred.
        """
        known = self.converged.filter(pc.is_valid(self.converged["ELLIPTICITY_SIGMA_ERR"]))
        if not known.num_rows:
            where = f"{self.catalogue.folder / 'shear.parquet'}, column ELLIPTICITY_SIGMA"
            action = "Give it with --dispersion, as the run's configuration does."
            raise InputError(explain(where, "no value", "inferred dispersions", action))
        sigma = np.asarray(known["ELLIPTICITY_SIGMA"], float)
        error = np.asarray(known["ELLIPTICITY_SIGMA_ERR"], float)
        return float(np.average(sigma, weights=(sigma / error) ** 2))

    def usable(self, table: pa.Table) -> pa.Table:
        """The rows that have samples and a position, in sub-tiles that have converged."""
        has = pc.and_(pc.is_valid(table["SAMPLE_LOG_WEIGHT"]), pc.is_valid(table["HEALPIX"]))
        table = table.filter(has)
        return table.filter(pa.array(self._in_converged(table)))

    def _in_converged(self, table: pa.Table) -> Flags:
        return np.isin(subtile_keys(table), self._keys)

    @cached_property
    def _keys(self) -> Integers:
        return subtile_keys(self.converged)


def subtile_keys(table: pa.Table) -> Integers:
    """One number (n,) for the sub-tile of each row."""
    tile, row, col = (np.asarray(table[name]).astype(np.int64) for name in KEY)
    return (tile << 16) + (row << 8) + col
