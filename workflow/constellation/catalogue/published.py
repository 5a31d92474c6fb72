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

from constellation.catalogue.schema import EDITION, FAILURES, FILES, SHEAR, SOURCES
from constellation.sphere import unit_vectors
from constellation.tables import read_table
from shine.errors import InputError, explain

_AGAIN = "Publish it again with `constellation assemble`."


@dataclass(frozen=True)
class PublishedCatalogue:
    """The tables of one catalogue; they are read when they are first asked for.

    A newer one may take the folder's place meanwhile: then a table is of another edition, or a file
    of sources is no longer there, which is an `InputError`. Make a new object then.
    """

    folder: Path

    @cached_property
    def shear(self) -> pa.Table:
        """One row per sub-tile, sorted by HEALPIX; raises `InputError`."""
        return self._table("shear", SHEAR)

    @cached_property
    def files(self) -> pa.Table:
        """One row per file of sources."""
        return self._table("files", FILES)

    @cached_property
    def failures(self) -> pa.Table:
        """The planned sub-tiles that have no result."""
        return self._table("failures", FAILURES)

    def _table(self, name: str, schema: pa.Schema) -> pa.Table:
        path = self.folder / f"{name}.parquet"
        table = read_table(path, schema, _AGAIN)
        edition = (table.schema.metadata or {}).get(EDITION.encode())
        if self.__dict__.setdefault("_edition", edition) != edition:
            found = "a newer edition than that of the tables read before"
            raise InputError(explain(path, found, "the same", "Read the catalogue again."))
        return table

    def sources(
        self, columns: Sequence[str] | None = None, where: pc.Expression | None = None
    ) -> pa.Table:
        """The sources, or columns of those that fulfil a condition such as field("FLUX") > 1."""
        return self._read(self.files["PATH"].to_pylist(), columns, where)

    def sources_by_file(
        self,
        columns: Sequence[str] | None = None,
        near: tuple[float, float, float] | None = None,
    ) -> Iterator[pa.Table]:
        """The sources of one file after the other, in the order of `files`: a tile at a time.

        With `near` (RA, Dec and radius in degrees) only of files that can hold any within it.
        """
        paths = self.files["PATH"].to_pylist() if near is None else self.files_near(*near)
        for path in paths:
            yield self.sources_in(path, columns)

    def sources_in(self, path: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The sources of one of the `files`."""
        return self._read([path], columns, None)

    def cone(
        self, ra_deg: float, dec_deg: float, radius_deg: float, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """The sources within a radius of a position; opens only the files that can hold any."""
        centre = _vector(ra_deg, dec_deg)
        names = SOURCES.names if columns is None else list(columns)
        extra = [name for name in ("RA", "DEC") if name not in names]
        found = self._read(self.files_near(ra_deg, dec_deg, radius_deg), [*names, *extra], None)
        found = found.filter(pc.is_valid(found["RA"]))
        inside = _separation(found, centre) <= np.radians(radius_deg)
        return found.filter(pa.array(inside)).select(names)

    def files_near(self, ra_deg: float, dec_deg: float, radius_deg: float) -> list[str]:
        """The files that can hold sources within a radius of a position, as in `files`."""
        files = self.files.filter(pc.is_valid(self.files["RA"]))
        reach = np.radians(np.asarray(files["RADIUS"]) + radius_deg)
        near = _separation(files, _vector(ra_deg, dec_deg)) <= reach * (1.0 + 1e-9) + 1e-12
        return files.filter(pa.array(near))["PATH"].to_pylist()

    def _read(
        self, paths: Sequence[str], columns: Sequence[str] | None, where: pc.Expression | None
    ) -> pa.Table:
        if not paths:
            return SOURCES.empty_table().select(list(columns or SOURCES.names))
        try:
            found = dataset.dataset(
                [str(self.folder / path) for path in paths], schema=SOURCES, format="parquet"
            )
            return found.to_table(columns=columns and list(columns), filter=where)
        except (OSError, pa.ArrowInvalid) as error:
            problem = " ".join(str(error).split())
            action = "If it was published anew meanwhile, read it again; else publish it again."
            raise InputError(
                explain(self.folder, f"sources that cannot be read ({problem})", "all", action)
            ) from error


def _vector(ra_deg: float, dec_deg: float) -> NDArray[np.float64]:
    return unit_vectors(np.array([ra_deg]), np.array([dec_deg]))[0]


def _separation(table: pa.Table, centre: NDArray) -> NDArray[np.float64]:
    """Angles (n,) of the rows' RA, DEC from a unit vector, rad."""
    vectors = unit_vectors(np.asarray(table["RA"]), np.asarray(table["DEC"]))
    return 2.0 * np.arcsin(np.clip(np.linalg.norm(vectors - centre, axis=-1) / 2.0, 0.0, 1.0))
