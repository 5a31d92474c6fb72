"""Reading a published catalogue, a folder that is replaced as a whole:

shear.parquet                one row per sub-tile
sources/{tile}-{digest}.parquet   the core sources of a tile, with their samples
files.parquet                what is in which of these, so that a search opens few
failures.parquet             planned sub-tiles without a result, and why
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import dataset

from constellation.catalogue.schema import FAILURES, FILES, SHEAR, SOURCES
from constellation.sphere import unit_vectors
from constellation.tables import read_table
from shine.errors import InputError, explain

_AGAIN = "Publish it again with `constellation assemble`."


@dataclass(frozen=True)
class PublishedCatalogue:
    """The tables of one catalogue; they are read when they are first asked for.

    A newer one may take the folder's place meanwhile: then a file of sources is no longer there,
    which is an `InputError`, but never of another catalogue than the rest.
    """

    folder: Path

    @cached_property
    def shear(self) -> pa.Table:
        """One row per sub-tile, sorted by HEALPIX; raises `InputError`."""
        return read_table(self.folder / "shear.parquet", SHEAR, _AGAIN)

    @cached_property
    def files(self) -> pa.Table:
        """One row per file of sources."""
        return read_table(self.folder / "files.parquet", FILES, _AGAIN)

    @cached_property
    def failures(self) -> pa.Table:
        """The planned sub-tiles that have no result."""
        return read_table(self.folder / "failures.parquet", FAILURES, _AGAIN)

    def sources(
        self, columns: Sequence[str] | None = None, where: pc.Expression | None = None
    ) -> pa.Table:
        """The sources, or columns of those that fulfil a condition such as field("FLUX") > 1."""
        return self._read(self.files["PATH"].to_pylist(), columns, where)

    def by_file(
        self,
        columns: Sequence[str] | None = None,
        near: tuple[float, float, float] | None = None,
    ) -> Iterator[pa.Table]:
        """The sources of one file after another, in the order of `files`: a tile at a time.

        With `near` (RA, Dec and radius in degrees) only of files that can hold any within it.
        """
        paths = self.files["PATH"].to_pylist()
        if near is not None:
            centre = unit_vectors(np.array([near[0]]), np.array([near[1]]))[0]
            paths = self._files_near(centre, near[2])
        for path in paths:
            yield self._read([path], None if columns is None else list(columns), None)

    def cone(
        self, ra_deg: float, dec_deg: float, radius_deg: float, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """The sources within a radius of a position; opens only the files that can hold any."""
        centre = unit_vectors(np.array([ra_deg]), np.array([dec_deg]))[0]
        names = SOURCES.names if columns is None else list(columns)
        extra = [name for name in ("RA", "DEC") if name not in names]
        found = self._read(self._files_near(centre, radius_deg), [*names, *extra], None)
        found = found.filter(pc.is_valid(found["RA"]))
        inside = _separation(found, centre) <= np.radians(radius_deg)
        return found.filter(pa.array(inside)).select(names)

    def _files_near(self, centre: NDArray, radius_deg: float) -> list[str]:
        files = self.files.filter(pc.is_valid(self.files["RA"]))
        reach = np.radians(np.asarray(files["RADIUS"]) + radius_deg)
        near = _separation(files, centre) <= reach * (1.0 + 1e-9) + 1e-12
        return files.filter(pa.array(near))["PATH"].to_pylist()

    def _read(
        self, paths: Sequence[str], columns: Sequence[str] | None, where: pc.Expression | None
    ) -> pa.Table:
        if not paths:
            return SOURCES.empty_table().select(columns or SOURCES.names)
        try:
            found = dataset.dataset(
                [str(self.folder / path) for path in paths], schema=SOURCES, format="parquet"
            )
            return found.to_table(columns=columns, filter=where)
        except (OSError, pa.ArrowInvalid) as error:
            problem = " ".join(str(error).split())
            action = "If it was published anew meanwhile, read it again; else publish it again."
            raise InputError(
                explain(self.folder, f"sources that cannot be read ({problem})", "all", action)
            ) from error


def _separation(table: pa.Table, centre: NDArray) -> NDArray[np.float64]:
    """Angles (n,) of the rows' RA, DEC from a unit vector, rad."""
    vectors = unit_vectors(np.asarray(table["RA"]), np.asarray(table["DEC"]))
    return 2.0 * np.arcsin(np.clip(np.linalg.norm(vectors - centre, axis=-1) / 2.0, 0.0, 1.0))
